"""What the recorded writers commit: blocks of several sizes, maps that grow, batches that are dropped."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from checkpoint import QuarantineEntry


@dataclass(frozen=True, slots=True)
class State:
    """What an acknowledged store holds: batch indices, and the ordinals that were quarantined."""

    batches: frozenset[int] = frozenset()
    quarantined: frozenset[int] = frozenset()

    def as_json(self) -> dict[str, list[int]]:
        return {"batches": sorted(self.batches), "quarantined": sorted(self.quarantined)}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "State":
        return cls(frozenset(fields["batches"]), frozenset(fields["quarantined"]))


@dataclass(frozen=True, slots=True)
class Commit:
    batches: Sequence[int]
    quarantine: Sequence[QuarantineEntry] = ()


@dataclass(frozen=True, slots=True)
class Drop:
    """The room of dropped batches is written again by those that come later."""

    batches: Sequence[int]


@dataclass(frozen=True, slots=True)
class Shape:
    """A block is `rows` x `dim` float32. `threaded`: through CheckpointWriter, without drops."""

    rows: int
    dim: int
    steps: tuple[Commit | Drop, ...]
    map_size: int = 64 << 20
    threaded: bool = False

    def states(self) -> Iterator[State]:
        """After each step."""
        batches: set[int] = set()
        quarantined: set[int] = set()
        for step in self.steps:
            if isinstance(step, Drop):
                batches.difference_update(step.batches)
            else:
                batches.update(step.batches)
                quarantined.update(entry.ordinal for entry in step.quarantine)
            yield State(frozenset(batches), frozenset(quarantined))


def in_commits(num_commits: int, *, of: int = 1, quarantine: bool = False) -> tuple[Commit, ...]:
    """So many commits, each of so many blocks."""
    return tuple(
        Commit(
            range(number * of, number * of + of),
            (QuarantineEntry(number, "x", 3, "NaN"),) if quarantine else (),
        )
        for number in range(num_commits)
    )


def with_drops(num_commits: int) -> tuple[Commit | Drop, ...]:
    """Every fourth commit is dropped again, and computed again in the end."""
    steps: list[Commit | Drop] = []
    dropped = range(0, num_commits, 4)
    for number in range(num_commits):
        steps.append(Commit([number]))
        if number - 3 in dropped:
            steps.append(Drop([number - 3]))
    return (*steps, *(Commit([number]) for number in dropped if number + 3 < num_commits))


SHAPES = {
    "4 KiB blocks": Shape(8, 128, in_commits(40)),
    "256 KiB blocks, map grows from 512 KiB": Shape(128, 512, in_commits(20), map_size=512 << 10),
    "2 MiB blocks, map grows from 1 MiB": Shape(512, 1024, in_commits(6), map_size=1 << 20),
    "100 blocks of 4 KiB a commit, with quarantine": Shape(8, 128, in_commits(8, of=100, quarantine=True)),
    "256 KiB blocks, dropped and computed again": Shape(128, 512, with_drops(16), map_size=1 << 20),
    "64 KiB blocks through the commit thread": Shape(32, 512, in_commits(24), threaded=True),
}
