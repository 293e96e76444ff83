"""How fast a job gets on, and how long the rest of it takes at that speed.

Time is told by cost, not by sequences: a shard begins with its longest, so that counting sequences would take
its first minutes for all of them. Twins and reused records cost nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from queue_app.coordination.trust import values

WINDOW_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class ProgressSample:
    """What was done at one moment: server time in seconds, sequences, and cost as the shards count it."""

    time: float
    sequences_done: int
    cost_done: int

    @classmethod
    def decode(cls, line: str) -> "ProgressSample":
        """Read `<time> <sequences> <cost>`. Raises Garbage."""
        time, done, cost = (*line.split(" ", 2), "", "")[:3]
        return cls(
            values.finite(time, "samples"),
            values.whole(done, "samples", values.SUM_MOST),
            values.whole(cost, "samples", values.SUM_MOST),
        )


@dataclass(frozen=True, slots=True)
class Speed:
    """Per second, over the last minute."""

    sequences: float = 0.0
    cost: float = 0.0

    def seconds_for(self, cost: int) -> float | None:
        """How long so much takes; None where the speed is not known."""
        if not cost:
            return 0.0
        return cost / self.cost if self.cost else None


def speed_of(samples: Sequence[ProgressSample], now: float) -> Speed:
    """By a job's samples, newest first; `now` is the server's time."""
    recent = [each for each in samples if abs(now - each.time) < WINDOW_SECONDS]
    if len(recent) == len(samples):
        recent = _from_first_commit(recent)
    if len(recent) < 2 or recent[0].time <= recent[-1].time:
        return Speed()
    newest, oldest = recent[0], recent[-1]
    seconds = newest.time - oldest.time
    return Speed(
        max(newest.sequences_done - oldest.sequences_done, 0) / seconds,
        max(newest.cost_done - oldest.cost_done, 0) / seconds,
    )


def _from_first_commit(samples: Sequence[ProgressSample]) -> list[ProgressSample]:
    """Of a run that has just begun: what a resume finds, and the wait for a first commit, do not count."""
    return [each for each in samples if each.cost_done > samples[-1].cost_done]
