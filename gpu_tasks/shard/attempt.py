"""One attempt at a shard: from the lease that the manifest grants to what it is told of the end.

The lease is given back whatever happens. What the manifest is told is repeated while the server is away.
"""

import contextlib
import logging
from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING

from checkpoint import StaleToken
from gpu_tasks.inference.model import EmbeddingModel
from gpu_tasks.shard.attempt_end import finish, give_back, insist, tell_failure
from gpu_tasks.shard.numerics.canary_check import device_name, holds_exact, is_own_reference
from gpu_tasks.shard.observers import (
    CommitCounters,
    Observers,
    ProgressReport,
    RateMeter,
    ShardObserver,
    begin_history,
)
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.states import Lease
from queue_app.coordination.worker_figures import Figures
from queue_app.job.directory import JobDir
from queue_app.job.history import Outcome
from queue_app.job.spec import Job
from queue_app.settings import runtime_config
from queue_app.worker.device_worker import child_state, gpu_gauge, this_worker
from queue_app.worker.leases import Heartbeat
from queue_app.worker.metrics.counters import counters

if TYPE_CHECKING:
    from gpu_tasks.shard.reading import ReadShard
    from gpu_tasks.shard.shard_run import OpenShard, ShardRun

log = logging.getLogger(__name__)


COMPUTED = "computed"
"""It is published beside the next one."""

_rates = RateMeter()
"""Of this process, over all its shards."""


class Attempt:
    """An attempt at a leased shard: made ready, computed and ended, in this order, each by one thread.

    However it ends, its store is closed first, and its beat ends last.
    """

    def __init__(
        self,
        manifest: CheckpointManifest,
        lease: Lease,
        job: Job,
        directory: JobDir,
        model: EmbeddingModel,
        load_float32: Callable[[str], EmbeddingModel],
    ) -> None:
        """`load_float32` loads the model in float32 on a device, where that is something else."""
        self.lease = lease
        self._manifest = manifest
        self._exact_holds = holds_exact(job)
        device = "cpu" if job.model.family == "mock" else device_name(job)
        if device != "cpu":
            watch_gpu(device)
        self._history = begin_history(directory, lease, this_worker.entry.name, device)
        figures = partial(current_figures, device)
        self.heartbeat = Heartbeat(manifest, lease, runtime_config().beat_seconds, figures)
        progress = ProgressReport(self.heartbeat.report)
        self._observers = Observers(progress, _rates, CommitCounters(counters), self._history)
        float32 = None if is_own_reference(job) else cache(load_float32)
        self._run = shard_run(job, directory, lease, model, float32, self.heartbeat, self._observers)
        self._beating, self._opened = contextlib.ExitStack(), contextlib.ExitStack()
        self._shard: OpenShard | None = None

    def make_ready(self, read: "ReadShard | None" = None) -> None:
        """Beat, and open the store: all that comes before the first batch. `read`, where it was read ahead.

        Raises as `ShardRun.opened` does.
        """
        self._beating.enter_context(self.heartbeat)
        self._beating.enter_context(child_state.computing())
        self._history.note(exact=self._exact_holds)
        self._shard = self._opened.enter_context(self._run.opened(read))

    def watch(self, observer: ShardObserver) -> None:
        """Have it told how far the attempt is, too; before it computes."""
        self._observers.add(observer)

    def let_go(self, reason: str) -> None:
        """Give the shard back as if it had never been taken: nothing of it was computed."""
        with self._beating:
            self._opened.close()
            insist(lambda: self._manifest.release(self.lease, reason, counts=False))

    def work(self, publish_beside: Callable[[], bool] = lambda: False) -> str:
        """Compute the shard and publish it; answers in a word how it ended.

        `publish_beside` is asked once all is computed: where it says yes, it has the attempt ended elsewhere.
        """
        return self._to_its_end(partial(self._compute_and_publish, publish_beside))

    def end(self) -> str:
        """Commit what is left of a shard that was computed, publish it and tell; answers as `work` does.

        Batches that turn out damaged are for whoever is dealt the shard next.
        """
        return self._to_its_end(lambda: self._publish() or self._give_back())

    def _to_its_end(self, steps: Callable[[], str]) -> str:
        try:
            return steps()
        except StaleToken as error:
            self._close(error)
            self._history.note(outcome=Outcome.LOST)
            log.warning("fenced %s", self.lease.label)
            self._beating.close()
            return "fenced"
        except Exception as error:
            self._close(error)
            with self._beating:
                ended = tell_failure(self._manifest, self.lease, self._history, error)
            if ended is None:
                raise
            return ended

    def _close(self, error: Exception) -> None:
        """Close the store, which is to know why: a damaged one is looked through by its next owner."""
        self._opened.__exit__(type(error), error, error.__traceback__)

    def _compute_and_publish(self, publish_beside: Callable[[], bool]) -> str:
        if self._shard is None:
            self.make_ready()
        assert self._shard is not None
        while self._shard.compute():
            if publish_beside():
                return COMPUTED
            if (ended := self._publish()) is not None:
                return ended
        return self._give_back()

    def _publish(self) -> str | None:
        assert self._shard is not None
        done = self._shard.publish()
        if done is None:
            return None
        self._opened.close()
        self._history.note(outcome=Outcome.DONE)
        self._beating.close()
        return finish(self._manifest, self.lease, done, self.heartbeat.progress, self._run.discard_store)

    def _give_back(self) -> str:
        self._opened.close()
        self._history.note(outcome=Outcome.LOST if self.heartbeat.lost.is_set() else Outcome.STOPPED)
        with self._beating:
            return give_back(self._manifest, self.lease, self.heartbeat)


def shard_run(
    job: Job,
    directory: JobDir,
    lease: Lease,
    model: EmbeddingModel,
    load_float32: Callable[[str], EmbeddingModel] | None,
    heartbeat: Heartbeat,
    observer: ShardObserver,
) -> "ShardRun":
    """The run of the shard, tied to what watches over this process."""
    from gpu_tasks.shard.shard_run import ShardRun

    def should_stop() -> bool:
        child_state.begin_batch()  # asked before each batch
        return child_state.is_draining() or heartbeat.should_stop()

    return ShardRun(job, directory, lease, model, runtime_config(), should_stop, load_float32, observer)


def watch_gpu(device: str) -> None:
    """Have the gauge read the very device that is computed on."""
    from gpu_tasks.inference.torch_device import hardware_id

    with contextlib.suppress(RuntimeError, AssertionError):  # torch sees no device: the shard will say so
        gpu_gauge.identify(hardware_id(device))


def current_figures(device: str) -> Figures:
    """How fast this process computes, and what the driver says of its GPU where there is one."""
    return _rates.figures(None if device == "cpu" else gpu_gauge.load())
