"""The shards of a job as the page's map shows them, however many there are."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

from checkpoint.records import DoneRecord
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.states import JobState, ShardState, ShardStatus
from queue_app.coordination.workers import Owner
from queue_app.job.directory import JobDir
from queue_app.job.done_records import read_done
from queue_app.job.spec import Job

FEW_SHARDS = 500
ALL_EVERY_SECONDS = 5.0
ALL_SHARE = 0.1
"""Reading all shards takes at most this share of the time."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One shard. `worker` is empty while nobody holds it; `losses` counts the leases seen to end early."""

    index: int
    state: ShardState
    total: int
    worker: str = ""
    token: int = 0
    attempts: int = 0
    done: int = 0
    quarantined: int = 0
    error: str = ""
    losses: int = 0


class ShardMap:
    """Every shard as it was last seen.

    Few shards are all read every time. Of many, those that run or ran a moment ago are read every time, all
    of them now and then, and when the job's state has changed.
    """

    def __init__(self) -> None:
        self._cells: dict[int, Cell] = {}
        self._job_state: JobState | None = None
        self._all_due_at = 0.0

    def look(self, manifest: CheckpointManifest, num_shards: int, job_state: JobState) -> tuple[Cell, ...]:
        """Raises redis errors as they come."""
        due = time.monotonic() >= self._all_due_at
        if num_shards <= FEW_SHARDS or due or job_state is not self._job_state:
            self._read_all(manifest, num_shards)
            self._job_state = job_state
        else:
            ran = [cell.index for cell in self._cells.values() if cell.state is ShardState.RUNNING]
            moving = sorted({*manifest.running(), *ran})
            self._cells |= read_cells(manifest, moving)
        return tuple(self._cells.values())

    def _read_all(self, manifest: CheckpointManifest, num_shards: int) -> None:
        began = time.monotonic()
        self._cells = {status.index: _cell(status) for status in manifest.every_readable_status(num_shards)}
        ended = time.monotonic()
        self._all_due_at = ended + max(ALL_EVERY_SECONDS, (ended - began) / ALL_SHARE)


def read_cells(manifest: CheckpointManifest, indices: Iterable[int]) -> dict[int, Cell]:
    """Shards that the server does not know are left out."""
    return {status.index: _cell(status) for status in manifest.readable_statuses(indices)}


def _cell(status: ShardStatus) -> Cell:
    owner = Owner.decode(status.owner)
    return Cell(
        index=status.index,
        state=status.state,
        total=status.num_records,
        worker=owner.worker if owner else "",
        token=status.token,
        attempts=status.attempts,
        done=status.sequences_done,
        quarantined=status.quarantined,
        error=status.error,
    )


def cells_of_directory(job: Job, job_dir: JobDir, known: Iterable[Cell]) -> tuple[Cell, ...]:
    """What the done files say; of the other shards, what was last known, and that nobody holds them."""
    last = {cell.index: cell for cell in known}
    new = {shard: Cell(shard.index, ShardState.PENDING, shard.num_records) for shard in job.shards}
    return tuple(
        _at_rest(last.get(shard.index, cell), read_done(job_dir, shard)) for shard, cell in new.items()
    )


def _at_rest(cell: Cell, record: DoneRecord | None) -> Cell:
    if record is not None:
        done, quarantined = record.num_embedded, len(record.quarantine)
        return replace(cell, state=ShardState.DONE, done=done, quarantined=quarantined, error="")
    if cell.state in (ShardState.RUNNING, ShardState.DONE):
        return replace(cell, state=ShardState.PENDING, worker="")
    return cell


STOPPED = "stopped early"
"""What stands in a shard that its worker gave back in order: for a pause, a cancel or its own end."""


def with_losses(before: Iterable[Cell], now: Iterable[Cell]) -> tuple[Cell, ...]:
    """The cells of now, each with the leases counted that are known to have come to an early end."""
    known = {cell.index: cell for cell in before}
    return tuple(replace(cell, losses=_losses(known.get(cell.index), cell)) for cell in now)


def _losses(old: Cell | None, new: Cell) -> int:
    """Tokens tell of a lease that ended and was given out again between two looks."""
    open_again = new.state in (ShardState.PENDING, ShardState.RUNNING) and _is_troubled(new)
    if old is None:
        return int(open_again)
    return old.losses + (open_again and _leases_ended(new) > _leases_ended(old))


def _leases_ended(cell: Cell) -> int:
    return cell.token - (cell.state is ShardState.RUNNING)


def _is_troubled(cell: Cell) -> bool:
    """The reason stays with the shard until it is done."""
    return cell.error not in ("", STOPPED)
