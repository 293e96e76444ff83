"""How often each shard's lease came to an early end, as far as successive looks can tell. Pure functions."""

from collections.abc import Iterable
from dataclasses import replace

from queue_app.coordination.states import ShardState
from queue_app.dashboard.shard_cells import Cell

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
