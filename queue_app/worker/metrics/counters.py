"""What a worker has done since it started, counted where it happens and read by its parent.

The counters lie in memory that the parent shares with the children forked from it: a child that is killed
takes nothing with it, and the next one counts on. There is no lock, for one that a dead child held would be
held for ever. Instead parent and child have a row each, every counter of a row is written by one thread at
a time, and a write is a single store of eight aligned bytes: whoever dies between two has spoilt neither.
"""

import mmap
import os
from bisect import bisect_left
from collections.abc import Mapping
from enum import IntEnum, auto
from itertools import accumulate

from queue_app.coordination.trust.message_gate import Reason

COMMIT_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds in seconds; a last bucket takes what is longer."""


class Count(IntEnum):
    """What is counted. Times are in seconds."""

    SEQUENCES_EMBEDDED = auto()
    SEQUENCES_QUARANTINED = auto()
    TOKENS_EMBEDDED = auto()
    BATCHES = auto()
    COMMITTING = auto()
    WAIT = auto()
    LAUNCH = auto()
    FETCH = auto()
    COPY_IN = auto()
    COMPUTE = auto()
    COPY_OUT = auto()
    SHARDS_COMPLETED = auto()
    SHARD_RETRIES = auto()
    LEASES_EXPIRED = auto()
    CHILDREN_STARTED = auto()
    TROUBLES = auto()
    GARBAGE = auto()
    UNSIGNED = auto()
    SERVER_WAITS = auto()
    DROPPED_TOO_LARGE = auto()
    DROPPED_UNREADABLE = auto()
    DROPPED_ENCODING = auto()
    DROPPED_TASK = auto()
    DROPPED_ARGUMENTS = auto()
    DROPPED_IDENTITY = auto()
    DROPPED_UNSIGNED = auto()
    DROPPED_STALE = auto()
    DROPPED_REPLAYED = auto()


DROPPED: Mapping[Reason, Count] = {reason: Count[f"DROPPED_{reason.name}"] for reason in Reason}
"""Messages that were dropped, by why."""


class Counters:
    """Make it before the fork; each process adds, any of them may read."""

    def __init__(self) -> None:
        self._maker = os.getpid()
        self._buckets_at = len(Count) + 1
        self._row = self._buckets_at + len(COMMIT_BUCKETS) + 1
        self._slots = memoryview(mmap.mmap(-1, 2 * self._row * 8)).cast("d")

    def add(self, count: Count, amount: float = 1.0) -> None:
        self._add(count, amount)

    def observe_commit(self, seconds: float) -> None:
        """One commit, that took so long."""
        self._add(self._buckets_at + bisect_left(COMMIT_BUCKETS, seconds), 1.0)
        self._add(Count.COMMITTING, seconds)

    def total(self, count: Count) -> float:
        return self._total(count)

    def commits(self) -> list[tuple[float, float]]:
        """(upper bound in seconds, how many commits took no longer), the last bound being infinite."""
        counts = [self._total(self._buckets_at + bucket) for bucket in range(len(COMMIT_BUCKETS) + 1)]
        return list(zip((*COMMIT_BUCKETS, float("inf")), accumulate(counts), strict=True))

    def _add(self, slot: int, amount: float) -> None:
        self._slots[slot + (0 if os.getpid() == self._maker else self._row)] += amount

    def _total(self, slot: int) -> float:
        return self._slots[slot] + self._slots[slot + self._row]


counters = Counters()
"""The one of this worker: made in the parent, inherited by its children."""
