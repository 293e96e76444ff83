"""What the job directory says is done: the done files, and the results that they name."""

import logging

from checkpoint.records import DoneRecord
from queue_app.host.durable_files import file_digest
from queue_app.job.directory import JobDir
from queue_app.job.spec import Job, Progress

log = logging.getLogger(__name__)


def finished_shards(job: Job, job_dir: JobDir) -> dict[int, Progress]:
    """The shards whose done file names a result that is there and whole; other done files are removed.

    Removing the done file first, before anything is recomputed, keeps a damaged result from ever
    counting as done.
    """
    finished: dict[int, Progress] = {}
    for shard in job.shards:
        record = read_done(job_dir, shard.index)
        if record is None:
            continue
        result = job_dir.results / record.file
        if result.is_file() and file_digest(result) == record.digest:
            finished[shard.index] = Progress(
                sequences_done=record.num_embedded, quarantined=len(record.quarantine)
            )
        else:
            log.warning("result damaged or missing job=%s shard=%d file=%s", job.job_id, shard.index, result)
            job_dir.done(shard.index).unlink()
    return finished


def read_done(job_dir: JobDir, index: int) -> DoneRecord | None:
    """The shard's done file; None when there is none or it is unreadable."""
    try:
        return DoneRecord.decode(job_dir.done(index).read_bytes())
    except (FileNotFoundError, ValueError):
        return None
