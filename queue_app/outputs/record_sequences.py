"""The sequences of a job's records as they were embedded, for outputs that name vectors by them.

They are read again from the shards, one at a time.
"""

from collections.abc import Iterator
from heapq import merge

from queue_app.errors import UsageError
from queue_app.job.directory import JobDir
from queue_app.job.duplicates import read_twins
from queue_app.job.shard_files import read_shard
from queue_app.job.spec import Job

RecordSequences = Iterator[tuple[int, str | None]]
"""Ordinal and sequence of every record, by ordinal; None for a twin, whose sequence came before."""


def require_sequences(job: Job, job_dir: JobDir) -> None:
    """Raises UsageError where the shards were removed."""
    if not all(job_dir.shard(shard.index).is_file() for shard in job.shards):
        raise UsageError(
            f"{job_dir.path}: per-hash names vectors by their sequences, which holdfast clean has removed; "
            f"embed them again into another output: --reuse {job_dir.path} copies the vectors"
        )


def iter_sequences(job: Job, job_dir: JobDir) -> RecordSequences:
    """Raises Damage when a file is not the one that was submitted."""
    streams = (
        _of_shards(job, job_dir, reused=False),
        _of_shards(job, job_dir, reused=True),
        _of_twins(job, job_dir),
    )
    return merge(*streams, key=lambda found: found[0])


def _of_shards(job: Job, job_dir: JobDir, *, reused: bool) -> RecordSequences:
    for shard in job.shards:
        if shard.reused == reused:
            records = read_shard(job_dir.shard(shard.index), shard)
            yield from zip(records.ordinals.tolist(), records.sequences, strict=True)


def _of_twins(job: Job, job_dir: JobDir) -> RecordSequences:
    for batch in read_twins(job, job_dir):
        yield from ((ordinal, None) for ordinal in batch.column("ordinal").to_pylist())
