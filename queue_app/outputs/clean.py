"""What a finished job leaves behind, and how much room it takes."""

import shutil
from pathlib import Path

from queue_app.errors import UsageError
from queue_app.host.file_lock import FileLock
from queue_app.job.directory import JobDir
from queue_app.job.done_records import finished_shards
from queue_app.job.output_names import needs_sequences
from queue_app.job.output_place import output_of
from queue_app.outputs.content import content_lock
from queue_app.settings import runtime_config

NO_LONGER_NEEDED = (
    "array", "checkpoints", "shards", "server", "server.json", "processes.json", "logs", "piped",
)  # fmt: skip
"""The results and duplicates stay: verify, export and the same embed command still answer from them; so do
the sequences, by which a later job finds vectors, and the shards of a job whose output is named by them."""


def clean(job_dir: JobDir) -> int:
    """Remove all but job.json, the results and what says of them; answers the bytes that were freed.

    Raises:
        UsageError: the job is not finished, or its output is not there: its work is still needed.
        JobBusy: a process works on it.
    """
    with FileLock(job_dir.path / "lock"), content_lock(job_dir):
        job = job_dir.load()
        output = output_of(job, job_dir)
        left = len(job.shards) - len(finished_shards(job, job_dir))
        if left:
            raise UsageError(
                f"{job_dir.path}: {left} shards are not done; holdfast resume {job_dir.path} goes on"
            )
        if not output.exists():
            raise UsageError(f"{output} is missing; holdfast export {job_dir.path} -o {output} writes it")
        paths = [job_dir.aside, *(job_dir.path / name for name in NO_LONGER_NEEDED)]
        if needs_sequences(output, job.run.h5_layout):
            paths.remove(job_dir.shards)
        if scratch := runtime_config().scratch:
            paths.append(scratch / job.job_id)
        return sum(_remove(path) for path in paths)


def _remove(path: Path) -> int:
    if path.is_dir():
        freed = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        shutil.rmtree(path)
        return freed
    if not path.exists():
        return 0
    freed = path.stat().st_size
    path.unlink()
    return freed
