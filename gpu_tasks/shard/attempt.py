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
from gpu_tasks.shard.attempt_end import finish, give_back, outcome_of, tell_failure
from gpu_tasks.shard.canary_check import device_name, holds_exact, is_exact
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
from queue_app.host.memory import give_memory_back
from queue_app.job.directory import JobDir
from queue_app.job.history import Outcome
from queue_app.job.spec import Job
from queue_app.settings import runtime_config
from queue_app.worker.device_worker import child_state, gpu_gauge, this_worker
from queue_app.worker.leases import Heartbeat
from queue_app.worker.metrics.counters import counters

if TYPE_CHECKING:
    from gpu_tasks.shard.shard_run import ShardRun

log = logging.getLogger(__name__)


_rates = RateMeter()
"""Of this process, over all its shards."""


def work(
    manifest: CheckpointManifest,
    lease: Lease,
    job: Job,
    directory: JobDir,
    model: EmbeddingModel,
    load_exact: Callable[[], EmbeddingModel],
) -> str:
    """Run the leased shard and report how it ended, in a word.

    `load_exact` loads the model on the processor in float32, where that is something else.
    """
    device = "cpu" if job.model.family == "mock" else device_name(job)
    history = begin_history(directory, lease, this_worker.entry.name, device)
    if device != "cpu":
        watch_gpu(device)
    figures = partial(current_figures, device)
    with (
        Heartbeat(manifest, lease, runtime_config().beat_seconds, figures) as heartbeat,
        child_state.computing(),
    ):
        observer = Observers(ProgressReport(heartbeat.report), _rates, CommitCounters(counters), history)
        exact = None if is_exact(job) else cache(load_exact)
        run = shard_run(job, directory, lease, model, exact, heartbeat, observer)
        try:
            history.note(exact=holds_exact(job))
            done = run.run()
            history.note(outcome=outcome_of(done, heartbeat))
        except StaleToken:
            history.note(outcome=Outcome.LOST)
            log.warning("fenced %s", lease.label)
            return "fenced"
        except Exception as error:
            ended = tell_failure(manifest, lease, history, error)
            if ended is None:
                raise
            return ended
        if done is None:
            return give_back(manifest, lease, heartbeat)
    give_memory_back()
    return finish(manifest, run, done, heartbeat.progress)


def shard_run(
    job: Job,
    directory: JobDir,
    lease: Lease,
    model: EmbeddingModel,
    load_exact: Callable[[], EmbeddingModel] | None,
    heartbeat: Heartbeat,
    observer: ShardObserver,
) -> "ShardRun":
    """The run of the shard, tied to what watches over this process."""
    from gpu_tasks.shard.shard_run import ShardRun

    def should_stop() -> bool:
        child_state.begin_batch()  # asked before each batch
        return child_state.is_draining() or heartbeat.should_stop()

    return ShardRun(job, directory, lease, model, runtime_config(), should_stop, load_exact, observer)


def watch_gpu(device: str) -> None:
    """Have the gauge read the very device that is computed on."""
    from gpu_tasks.inference.torch_device import hardware_id

    with contextlib.suppress(RuntimeError, AssertionError):  # torch sees no device: the shard will say so
        gpu_gauge.identify(hardware_id(device))


def current_figures(device: str) -> Figures:
    """How fast this process computes, and what the driver says of its GPU where there is one."""
    return _rates.figures(None if device == "cpu" else gpu_gauge.load())
