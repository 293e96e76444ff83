"""Who watches an attempt at a shard: the manifest, this worker's figures and metrics, the job's history.

The run tells one observer and knows none of them; none of them slows the inference loop.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING

from queue_app.coordination.states import Lease
from queue_app.coordination.worker_figures import Figures
from queue_app.host.devices import processor_name
from queue_app.host.gpu_load import GpuLoad
from queue_app.job.directory import JobDir
from queue_app.job.history import Attempt, AttemptLog
from queue_app.job.spec import Progress
from queue_app.worker.metrics.counters import Count, Counters

if TYPE_CHECKING:
    from gpu_tasks.inference.batch_plan import BatchPlan
    from gpu_tasks.inference.runner import Timings

WINDOW_SECONDS = 20.0


class ShardObserver:
    """What an attempt tells of itself; here nobody listens. What an observer raises ends the attempt."""

    def planned(self, plan: "BatchPlan") -> None:
        """The shard's batches stand."""

    def computing(self, resumed: Progress, timings: "Timings") -> None:
        """It begins to compute what earlier attempts left; `timings` grow while it does."""

    def computed(self, batch_idx: int) -> None:
        """A batch's vectors are there. Called on the inference thread."""

    def committed(self, batches: Sequence[int], progress: Progress, seconds: float) -> None:
        """These batches are durable now; their commit took so long. Called on the commit thread."""


class Observers(ShardObserver):
    """Tells each of them in turn."""

    def __init__(self, *observers: ShardObserver) -> None:
        self._observers = [*observers]

    def add(self, observer: ShardObserver) -> None:
        self._observers.append(observer)

    def planned(self, plan: "BatchPlan") -> None:
        for observer in self._observers:
            observer.planned(plan)

    def computing(self, resumed: Progress, timings: "Timings") -> None:
        for observer in self._observers:
            observer.computing(resumed, timings)

    def computed(self, batch_idx: int) -> None:
        for observer in self._observers:
            observer.computed(batch_idx)

    def committed(self, batches: Sequence[int], progress: Progress, seconds: float) -> None:
        for observer in self._observers:
            observer.committed(batches, progress, seconds)


class ProgressReport(ShardObserver):
    """Tells the manifest what is committed."""

    def __init__(self, report: Callable[[Progress], None]) -> None:
        self._report = report

    def computing(self, resumed: Progress, timings: "Timings") -> None:
        self._report(resumed)

    def committed(self, batches: Sequence[int], progress: Progress, seconds: float) -> None:
        self._report(progress)


class HistoryNotes(AttemptLog, ShardObserver):
    """Keeps what the attempt went through with the job."""

    def planned(self, plan: "BatchPlan") -> None:
        self.note(
            num_tokens=plan.num_tokens, num_batches=plan.num_batches, num_long=plan.num_long, fill=plan.fill
        )

    def committed(self, batches: Sequence[int], progress: Progress, seconds: float) -> None:
        self.note()


def begin_history(job_dir: JobDir, lease: Lease, worker: str, device: str) -> HistoryNotes:
    """With what is known of an attempt when it begins; nothing is written yet."""
    shard, now = lease.shard, time.time()
    hardware, torch = hardware_name(device), version("torch")
    attempt = Attempt(shard.job_id, shard.index, lease.token, worker, hardware, torch, began=now, seen=now)
    return HistoryNotes(job_dir, attempt)


@cache
def hardware_name(device: str) -> str:
    """What computes here, as its maker calls it."""
    if device == "cpu":
        return processor_name()
    import torch

    return str(torch.cuda.get_device_name(device))


class CommitCounters(ShardObserver):
    """Counts what is committed, and where the loop's time went, into the worker's metrics."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters

    def planned(self, plan: "BatchPlan") -> None:
        self._plan = plan

    def computing(self, resumed: Progress, timings: "Timings") -> None:
        self._timings = timings
        self._highest = self._readings(resumed)  # earlier attempts' commits are not counted again

    def committed(self, batches: Sequence[int], progress: Progress, seconds: float) -> None:
        self._counters.observe_commit(seconds)
        self._counters.add(Count.BATCHES, len(batches))
        self._counters.add(Count.TOKENS_EMBEDDED, sum(self._plan.tokens_of(index) for index in batches))
        for count, reading in self._readings(progress).items():
            # The sequences done sink for a while when some turn out bad before their batch is committed.
            risen = max(0.0, reading - self._highest[count])
            self._highest[count] += risen
            self._counters.add(count, risen)

    def _readings(self, progress: Progress) -> dict[Count, float]:
        return {
            Count.SEQUENCES_EMBEDDED: progress.sequences_done,
            Count.WAIT: self._timings.wait,
            Count.LAUNCH: self._timings.launch,
            Count.FETCH: self._timings.fetch,
            Count.COPY_IN: self._timings.copy_in,
            Count.COMPUTE: self._timings.compute,
            Count.COPY_OUT: self._timings.copy_out,
        }


@dataclass(frozen=True, slots=True)
class _Counted:
    """Everything so far, at one moment."""

    time: float
    sequences: int = 0
    tokens: int = 0
    waited: float = 0.0


class RateMeter(ShardObserver):
    """How fast this process computes, over all its shards, in the last 20 seconds.

    The inference thread counts, two additions a batch; the heartbeat's thread reads.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._now = _Counted(clock())
        self._seen = deque([self._now])
        self._fill: float | None = None
        self._waited = 0.0

    def planned(self, plan: "BatchPlan") -> None:
        self._plan = plan

    def computing(self, resumed: Progress, timings: "Timings") -> None:
        """What was long before does not count as the shard's rate."""
        self._timings = timings
        with self._lock:
            self._fill, self._waited = self._plan.fill, timings.wait
            if self._clock() - self._now.time > WINDOW_SECONDS:
                self._now = _Counted(self._clock())
                self._seen = deque([self._now])

    def computed(self, batch_idx: int) -> None:
        now, waited = self._now, self._timings.wait
        self._now = _Counted(
            self._clock(),
            now.sequences + self._plan.num_completed(batch_idx),
            now.tokens + self._plan.tokens_of(batch_idx),
            now.waited + waited - self._waited,
        )
        self._waited = waited

    def figures(self, load: GpuLoad | None = None) -> Figures:
        """Over the window, and the load of the GPU where it is known. A computation that stands still slows
        down here.
        """
        if load is None:
            return self._rates()
        return replace(
            self._rates(),
            gpu_share=load.share,
            gpu_memory_bytes=load.memory_bytes,
            gpu_memory_total_bytes=load.memory_total_bytes,
        )

    def _rates(self) -> Figures:
        with self._lock:
            now, since, seconds = self._now, self._oldest(), self._clock() - self._seen[0].time
            if now.time > self._seen[-1].time:
                self._seen.append(now)
        if seconds <= 0:
            return Figures(fill=self._fill)
        return Figures(
            sequences_per_second=round((now.sequences - since.sequences) / seconds, 3),
            tokens_per_second=round((now.tokens - since.tokens) / seconds, 3),
            fill=None if self._fill is None else round(self._fill, 4),
            wait_share=round(min((now.waited - since.waited) / seconds, 1.0), 4),
        )

    def _oldest(self) -> _Counted:
        """What had been counted when the window began."""
        while len(self._seen) > 1 and self._clock() - self._seen[1].time >= WINDOW_SECONDS:
            self._seen.popleft()
        return self._seen[0]
