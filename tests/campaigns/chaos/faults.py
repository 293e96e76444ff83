"""What a fault is. The faults themselves lie in `process_faults`, `server_faults`, `machine_faults` and
`job_faults`: small functions that each do one bad thing to the stage, and answer which queues' workers
they hit, or None when there was nothing to hit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from tests.campaigns.chaos.stage import Stage

Hit = tuple[str, ...]
"""The queues whose workers were hit."""


class Kind(StrEnum):
    """What a fault counts as in the totals."""

    KILL = "process kills"
    ZOMBIE = "zombies"
    SERVER = "server kills"
    FLUSH = "flushes"
    NETWORK = "network faults"
    MESSAGE = "message faults"
    PRODUCER = "producer faults"
    POISON = "poisoned jobs"
    MEMORY = "shortages of memory"
    DISK = "full disks"
    CLOCK = "moved clocks"


@dataclass(frozen=True, slots=True)
class Fault:
    """`weight` is how often it comes in one round of the bag that faults are drawn from.

    `needs_small_disk` and `needs_clocks` name what not every machine lets a user have.
    """

    name: str
    kind: Kind
    strike: Callable[[Stage], Hit | None]
    weight: int = 1
    needs_small_disk: bool = False
    needs_clocks: bool = False


def everyone(stage: Stage) -> Hit:
    return tuple(stage.queues)
