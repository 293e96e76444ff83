"""What the job directory says is done: the done records, and the results that they name."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path

from checkpoint.records import DoneRecord
from queue_app.errors import Damage, HoldfastError
from queue_app.host.durable_files import has_digest
from queue_app.job.directory import JobDir
from queue_app.job.shard_table import Shard
from queue_app.job.spec import Job, Progress

log = logging.getLogger(__name__)

_INDEX = re.compile(r"\d{5,}")
"""What the name of a file in done/ begins with."""


def read_done(job_dir: JobDir, index: int) -> DoneRecord | None:
    """The shard's done record; None when there is none or it is unreadable."""
    try:
        return DoneRecord.decode(job_dir.done(index).read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def begun(job: Job, job_dir: JobDir) -> Iterator[Shard]:
    """The shards of which anything lies in done/, ascending: by one listing, where a new job has 100,000
    shards and no record."""
    names = (path.name for path in job_dir.dones.iterdir()) if job_dir.dones.is_dir() else ()
    indices = {int(found[0]) for name in names if (found := _INDEX.match(name))}
    for index in sorted(indices):
        if index < len(job.shards):
            yield job.shards[index]


def all_done(job: Job, job_dir: JobDir, *, how_to_go_on: str) -> list[DoneRecord]:
    """Every shard's done record. Raises HoldfastError where some are missing."""
    found = [read_done(job_dir, shard.index) for shard in job.shards]
    records = [record for record in found if record is not None]
    if missing := len(found) - len(records):
        raise HoldfastError(f"{missing} of {len(found)} shards are not done; {how_to_go_on}")
    return records


def published_result(job_dir: JobDir, record: DoneRecord) -> Path | None:
    """The file that a done record names; None where it is missing, or not the one that was published."""
    path = job_dir.results / record.file
    return path if has_digest(path, record.digest) else None


def require_published(job_dir: JobDir, index: int, record: DoneRecord) -> None:
    """Raises Damage where the shard's result is not the one that was published."""
    if published_result(job_dir, record) is None:
        raise Damage(
            f"shard {index}: {job_dir.results / record.file} is missing or damaged; "
            f"holdfast resume {job_dir.path} computes it again"
        )


def finished_shards(job: Job, job_dir: JobDir, *, remove_damaged: bool = False) -> dict[int, Progress]:
    """The shards whose done record names a result that is there and whole.

    Whoever has the others computed again asks to `remove_damaged`: without its done record, which goes before
    anything is computed, a damaged result can never count as done.
    """
    finished: dict[int, Progress] = {}
    for shard in begun(job, job_dir):
        record = read_done(job_dir, shard.index)
        if record is None:
            continue
        if published_result(job_dir, record) is not None:
            finished[shard.index] = Progress(
                sequences_done=record.num_embedded, quarantined=len(record.quarantine)
            )
        elif remove_damaged:
            file = job_dir.results / record.file
            log.warning("result damaged or missing job=%s shard=%d file=%s", job.job_id, shard.index, file)
            job_dir.done(shard.index).unlink()
    return finished
