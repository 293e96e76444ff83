"""Meters one attempt at a shard: what it commits goes into the worker's tally, once per commit.

The inference loop does not know of it: the meter reads the loop's own timings, from the commit thread.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from gpu_tasks.inference.batch_plan import BatchPlan
from gpu_tasks.inference.runner import Timings
from queue_app.job.spec import Progress
from queue_app.worker.metrics.counters import Count, Tally


@dataclass(slots=True)
class Meter:
    """`start` is what earlier attempts had committed: that is not counted again."""

    tally: Tally
    plan: BatchPlan
    timings: Timings
    start: Progress
    _highest: dict[Count, float] = field(init=False)

    def __post_init__(self) -> None:
        self._highest = self._readings(self.start)

    def committed(self, batches: Sequence[int], progress: Progress, seconds: float) -> None:
        """These batches are durable now; their commit took so long."""
        self.tally.observe_commit(seconds)
        self.tally.add(Count.BATCHES, len(batches))
        self.tally.add(Count.TOKENS_EMBEDDED, sum(self.plan.tokens_of(index) for index in batches))
        for count, reading in self._readings(progress).items():
            # The sequences done sink for a while when some turn out bad before their batch is committed.
            risen = max(0.0, reading - self._highest[count])
            self._highest[count] += risen
            self.tally.add(count, risen)

    def _readings(self, progress: Progress) -> dict[Count, float]:
        return {
            Count.SEQUENCES_EMBEDDED: progress.sequences_done,
            Count.WAIT: self.timings.wait,
            Count.LAUNCH: self.timings.launch,
            Count.FETCH: self.timings.fetch,
            Count.COPY_IN: self.timings.copy_in,
            Count.COMPUTE: self.timings.compute,
            Count.COPY_OUT: self.timings.copy_out,
        }
