"""Faults of the machine: its small disk is full for a while, its clocks are moved."""

from collections.abc import Callable

from tests.campaigns.chaos.faults import Fault, Hit, Kind, everyone
from tests.campaigns.chaos.machine import HOUR
from tests.campaigns.chaos.stage import Stage

REFILL_SECONDS = 0.1


def fill_disk(stage: Stage) -> Hit | None:
    """Full for a few seconds, while a job that lies on it is being computed."""
    disk = stage.small_disk
    if disk is None or disk.is_full:
        return None
    shards = {queue: stage.journal.shard_of(queue) for queue in stage.queues}
    hit = tuple(queue for queue, shard in shards.items() if shard and shard[0] in stage.on_small_disk)
    if not hit:
        return None
    disk.fill()

    def refill() -> None:
        if disk.is_full:
            disk.fill()  # what was given back meanwhile
            stage.later(REFILL_SECONDS, refill)

    stage.later(REFILL_SECONDS, refill)
    stage.later(stage.rng.uniform(1, 4), disk.empty)
    return hit


def move_clock(name: str) -> Callable[[Stage], Hit | None]:
    """Of the server or of all workers: an hour ahead or back, or right again."""

    def strike(stage: Stage) -> Hit | None:
        clock = stage.clocks[name]
        clock.move(stage.rng.choice([offset for offset in (-HOUR, 0, HOUR) if offset != clock.offset]))
        return everyone(stage)

    return strike


MACHINE_FAULTS = (
    Fault("disk full for a while", Kind.DISK, fill_disk, 2, needs_small_disk=True),
    Fault("workers' clock moved by an hour", Kind.CLOCK, move_clock("workers"), needs_clocks=True),
    Fault("server's clock moved by an hour", Kind.CLOCK, move_clock("server"), needs_clocks=True),
)
