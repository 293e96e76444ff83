"""What is said of a job when it begins, whoever runs it."""

from collections.abc import Iterator, Sequence

from queue_app.host.devices import is_emulated
from queue_app.ingest.readers.formats import readings
from queue_app.job.spec import Job
from queue_app.model.wording import model_line, written
from queue_app.wording import count


def what_was_read(job: Job) -> Iterator[str]:
    """How the inputs were read, and what was noticed about the records."""
    yield from readings(job.inputs)
    yield from (f"note: {note}" for note in job.notes)


def what_is_to_do(job: Job, *, created: bool, num_messages: int, queues: Sequence[str]) -> Iterator[str]:
    """How much there is to compute, where, and with what model."""
    what = "submitted" if created else "resumed"
    yield (
        f"job {job.job_id} {what}: {job.counts.num_records:,} sequences{_spared(job)} "
        f"in {count(len(job.shards), 'shard')}, {num_messages} to do, on {', '.join(queues)}"
    )
    yield f"model {model_line(job.model)}: sequences {written(job.model)}"
    if job.options.device_class == "cpu" and is_emulated(job.options.dtype):
        yield f"this processor only emulates {job.options.dtype}: --dtype float32 is much faster"


def _spared(job: Job) -> str:
    """What need not be computed: ` (900 repeat others, 40 are reused from out.h5)`."""
    spared = []
    if job.twins:
        spared.append(f"{job.twins.num_twins:,} repeat others")
    if job.reuse:
        spared.append(f"{job.reuse.num_vectors:,} are reused from {job.reuse.path}")
    return f" ({', '.join(spared)})" if spared else ""
