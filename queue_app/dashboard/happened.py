"""What happened to a job between two looks at it, told in lines. Pure functions."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Literal

from queue_app.dashboard.cells import Cell
from queue_app.dashboard.look import Look
from queue_app.events import Event, EventKind
from queue_app.states import ShardState

STOPPED = "stopped early"
"""What stands in a shard that its worker gave back in order: for a pause, a cancel or its own end."""

Kind = Literal["note", "good", "bad"]
Line = tuple[Kind, str]


def happened(before: Look, now: Look) -> Iterator[Line]:
    """In the order in which one tells it; `now` has its losses counted."""
    yield from _to_the_server(before, now)
    known = {cell.index: cell for cell in before.cells}
    for cell in now.cells:
        if cell.index in known and cell != known[cell.index]:
            yield from _to_a_shard(known[cell.index], cell)
    if before.summary.state is not now.summary.state:
        yield "note", f"the job is {now.summary.state}"


def kind_of(event: Event) -> Kind:
    """Only a shard that was taken back is on its way again by that."""
    return "good" if event.kind is EventKind.RECOVERED else "bad"


def found(first: Look) -> Iterator[Line]:
    """What had happened before anybody looked, where the server kept no events and a trace was left."""
    if first.summary.events:
        return
    for cell in first.cells:
        if cell.losses:
            yield "bad", f"shard {cell.index} had come to an early end: {cell.error}"


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


def _to_the_server(before: Look, now: Look) -> Iterator[Line]:
    if before.source == "server" != now.source and not now.summary.ended:
        yield "bad", "the server does not answer"
    if before.source != "server" == now.source:
        yield "good", "the server answers again"


def _to_a_shard(old: Cell, new: Cell) -> Iterator[Line]:
    if new.losses > old.losses:
        holder = f", held by {old.worker}," if old.worker else ""
        yield "bad", f"shard {new.index}{holder} came to an early end: {new.error}"
    if new.token > old.token and _goes_on(old, new):
        yield "good", f"shard {new.index} goes on after its last commit, with {new.worker}"
    if new.state is ShardState.FAILED and old.state is not ShardState.FAILED:
        yield "bad", f"shard {new.index} was given up: {new.error}"


def _goes_on(old: Cell, new: Cell) -> bool:
    """Taken up again after an early end; one that is done by now no longer says why."""
    if new.state is ShardState.DONE:
        return old.state is ShardState.RUNNING or _is_troubled(old)
    return new.state is ShardState.RUNNING and (_is_troubled(old) or _is_troubled(new))
