"""Systems that take turns over the same sequences. One with wrong vectors is refused, however fast it is."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")
Vectors = npt.NDArray[Any]
NUM_WARM = 16
LEAST_COSINE = {"float32": 0.999, "bfloat16": 0.99, "float16": 0.99}


@dataclass(frozen=True, slots=True)
class System:
    """`embed` answers one vector per sequence, in the order of the sequences."""

    name: str
    dtype: str
    embed: Callable[[Sequence[str]], Vectors]
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Absent:
    """A system that cannot be measured here."""

    name: str
    reason: str


@dataclass(slots=True)
class Outcome:
    """Of one system: seconds of each round, and how far its vectors are from ours at most."""

    system: System
    seconds: list[float] = field(default_factory=list)
    cosine: float = 1.0

    @property
    def refused(self) -> bool:
        return not self.cosine > LEAST_COSINE[self.system.dtype]


def compare(
    systems: Sequence[System], sequences: Sequence[str], rounds: int, *, num_warm: int = NUM_WARM
) -> list[Outcome]:
    """Each round begins with another system; the vectors of all are held against the first one's."""
    outcomes = [Outcome(system) for system in systems]
    for system in systems:
        system.embed(sequences[:num_warm])
    for number in range(rounds):
        vectors = {id(each): timed(each, sequences) for each in turns(outcomes, number)}
        reference = vectors[id(outcomes[0])]
        for each in outcomes:
            each.cosine = min(each.cosine, least_cosine(reference, vectors[id(each)]))
    return outcomes


def turns(things: Sequence[T], number: int) -> list[T]:
    """All of them, beginning with another one in each round."""
    first = number % len(things)
    return [*things[first:], *things[:first]]


def timed(outcome: Outcome, sequences: Sequence[str]) -> Vectors:
    started = time.perf_counter()
    vectors = outcome.system.embed(sequences)
    outcome.seconds.append(time.perf_counter() - started)
    return vectors


def least_cosine(ours: Vectors, theirs: Vectors) -> float:
    """Over all rows, our mean taken off: with random weights all vectors point nearly the same way."""
    if ours.shape != theirs.shape:
        return -1.0
    mean = ours.mean(axis=0, dtype=np.float64)
    left, right = ours - mean, theirs - mean
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    with np.errstate(invalid="ignore"):
        return float(np.min(np.nan_to_num((left * right).sum(axis=1) / lengths, nan=-1.0)))


def ratios(ours: Outcome, theirs: Outcome) -> list[float]:
    """How many times as fast as theirs ours was, round by round."""
    return [slow / fast for slow, fast in zip(theirs.seconds, ours.seconds, strict=True)]
