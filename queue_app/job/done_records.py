"""What the job directory says is done: the done records, and the results that they name.

A done record decides which result is a shard's, so it is created and never replaced or removed: of all who
publish, one creates it, and the others take theirs for nothing. When its result is lost, the shard is
reopened: a next generation begins, in which again one record can be created. Every generation has names of
its own (JobDir.done, JobDir.reopened), and these are only ever made, never taken away. So whoever reopens
says which record he saw, by its generation, and can take away no other; and whoever publishes too late, in a
generation that is over, finds its place taken.

`create` and `reopen` alone write here, and need of what keeps the records only that it makes a file where
there is none: link(2) in a shared directory, If-None-Match in object storage.
"""

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import xxhash

from checkpoint.errors import StaleToken
from checkpoint.records import DoneRecord
from queue_app.errors import Damage, HoldfastError
from queue_app.host.durable_files import create_durably, has_digest
from queue_app.job.directory import JobDir
from queue_app.job.shard_table import Shard
from queue_app.job.spec import Job, Progress

log = logging.getLogger(__name__)

_INDEX = re.compile(r"\d{5,}")
"""What the name of a file in done/ begins with."""


@dataclass(frozen=True, slots=True)
class Generation:
    """The generation of a shard that counts now. `is_taken`: a record lies there, if only an unreadable one.

    A record of another job, which this one has replaced, is as good as unreadable.
    """

    number: int
    record: DoneRecord | None
    is_taken: bool


def current_generation(job_dir: JobDir, shard: Shard) -> Generation:
    """What counts of a shard."""
    number = 0
    while job_dir.reopened(shard.index, number + 1).exists():
        number += 1
    try:
        record = DoneRecord.decode(job_dir.done(shard.index, number).read_bytes())
    except FileNotFoundError:
        return Generation(number, None, is_taken=False)
    except ValueError:
        return Generation(number, None, is_taken=True)
    is_ours = (record.job, record.generation) == (shard.job_id, number)
    return Generation(number, record if is_ours else None, is_taken=True)


def create(job_dir: JobDir, shard: Shard, record: DoneRecord) -> DoneRecord:
    """Publish a record in its generation; answers the one that counts, which may be another's.

    Raises:
        StaleToken: none counts now: the generation is over, or what lies there is unreadable.
        DiskFull: there is no room.
    """
    create_durably(job_dir.done(shard.index, record.generation), record.encode())
    now = current_generation(job_dir, shard)
    if now.record is None:
        over = "is over" if now.number > record.generation else "has an unreadable done record"
        raise StaleToken(
            f"job={shard.job_id} shard={shard.index}: generation {record.generation} {over}; "
            "what was computed in it counts for nothing"
        )
    return now.record


def reopen(job_dir: JobDir, shard: Shard, seen: Generation) -> None:
    """Have a shard published anew. Changes nothing where somebody has reopened that generation before."""
    if not seen.is_taken:
        raise ValueError(f"shard {shard.index}: generation {seen.number} is still open")
    create_durably(job_dir.reopened(shard.index, seen.number + 1), b"")


def read_done(job_dir: JobDir, shard: Shard) -> DoneRecord | None:
    """The shard's done record; None when there is none or it is unreadable."""
    return current_generation(job_dir, shard).record


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
    found = [read_done(job_dir, shard) for shard in job.shards]
    records = [record for record in found if record is not None]
    if missing := len(found) - len(records):
        raise HoldfastError(f"{missing} of {len(found)} shards are not done; {how_to_go_on}")
    return records


def results_digest(records: Sequence[DoneRecord]) -> str:
    """xxh3-128 (hex) over what all shards have published, rows and quarantine: another one after a retry.

    Not over the names of the files: a shard may well be published twice with the same bytes.
    """
    state = xxhash.xxh3_128()
    for record in records:
        state.update(record.digest.encode())
        for entry in record.quarantine:
            state.update(entry.encode())
    return state.hexdigest()


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

    Whoever has the others computed again asks to `remove_damaged`: a shard that is reopened, before anything
    is computed, can never count as done by a damaged result.
    """
    finished: dict[int, Progress] = {}
    for shard in begun(job, job_dir):
        found = current_generation(job_dir, shard)
        if found.record is not None and published_result(job_dir, found.record) is not None:
            finished[shard.index] = Progress(
                sequences_done=found.record.num_embedded, quarantined=len(found.record.quarantine)
            )
        elif found.is_taken and remove_damaged:
            file = found.record.file if found.record else job_dir.done(shard.index, found.number).name
            log.warning("result damaged or missing job=%s shard=%d file=%s", job.job_id, shard.index, file)
            reopen(job_dir, shard, found)
    return finished
