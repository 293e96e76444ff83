"""One attempt at a shard: from the lease that the manifest grants to what it is told of the end.

The lease is given back whatever happens. What the manifest is told is repeated while the server is away.
"""

import contextlib
import logging
import time
from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING, TypeVar

from celery.exceptions import Reject

from checkpoint import DoneRecord, StaleToken
from gpu_tasks.errors import JobHopeless
from gpu_tasks.inference.device_errors import Fault, fault_of
from gpu_tasks.inference.model import EmbeddingModel
from gpu_tasks.shard.canary_check import device_name, is_exact
from gpu_tasks.shard.getting_ready import leave_process
from gpu_tasks.shard.observers import (
    CommitCounters,
    HistoryNotes,
    Observers,
    ProgressReport,
    RateMeter,
    ShardObserver,
    begin_history,
)
from queue_app.celery_app import app
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.messages import ask_for_export
from queue_app.coordination.redis_client import TRANSIENT
from queue_app.coordination.states import Lease, Refusal
from queue_app.coordination.worker_figures import Figures
from queue_app.errors import Damage
from queue_app.host.memory import give_memory_back
from queue_app.job.directory import JobDir
from queue_app.job.history import Outcome
from queue_app.job.spec import Job, Progress
from queue_app.settings import runtime_config
from queue_app.worker.device_worker import child_state, gpu_gauge, this_worker
from queue_app.worker.leases import Heartbeat
from queue_app.worker.metrics.counters import Count, counters

if TYPE_CHECKING:
    from gpu_tasks.shard.shard_run import ShardRun

log = logging.getLogger(__name__)

RELEASE_DELAY_SECONDS = 1.0
INSIST_SECONDS = 60.0

Answer = TypeVar("Answer")

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
            history.note()
            done = run.run()
            history.note(outcome=outcome_of(done, heartbeat))
        except StaleToken:
            history.note(outcome=Outcome.LOST)
            log.warning("fenced %s", lease.label)
            return "fenced"
        except Exception as error:
            tell_failure(manifest, lease, history, error)
            raise
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


def tell_failure(manifest: CheckpointManifest, lease: Lease, history: HistoryNotes, error: Exception) -> None:
    """The shard, or its job, fails where no other attempt would find better data; else it is tried again."""
    if isinstance(error, Damage | JobHopeless):
        reason, whole_job = str(error), isinstance(error, JobHopeless)
        insist(lambda: manifest.fail(lease, reason, whole_job=whole_job))
        history.fail(reason)
        return
    reason = f"{type(error).__name__}: {error}"
    insist(lambda: manifest.release(lease, reason, delay_seconds=RELEASE_DELAY_SECONDS))
    history.fail(reason)
    counters.add(Count.SHARD_RETRIES)
    if fault_of(error) is Fault.LOST:
        leave_process(reason)


def outcome_of(done: DoneRecord | None, heartbeat: Heartbeat) -> Outcome:
    """Without a done record the attempt stopped at a batch boundary."""
    if done is not None:
        return Outcome.DONE
    return Outcome.LOST if heartbeat.lost.is_set() else Outcome.STOPPED


def give_back(manifest: CheckpointManifest, lease: Lease, heartbeat: Heartbeat) -> str:
    """The shard was stopped at a batch boundary: by the worker's end, a pause, a cancel or a lost lease."""
    insist(lambda: manifest.release(lease, "stopped early", counts=False))
    if child_state.is_draining():
        raise Reject("the worker is shutting down", requeue=True)
    return "lost" if heartbeat.lost.is_set() else str(heartbeat.job_state)


def finish(manifest: CheckpointManifest, run: "ShardRun", done: DoneRecord, reported: Progress | None) -> str:
    """Tell the manifest; the last shard of a job wakes the export."""
    lease, batches = run.lease, reported.batches_done if reported else 0
    progress = Progress(batches, done.num_embedded, len(done.quarantine))
    answer = insist(lambda: manifest.complete(lease, progress, done.quarantine))
    if isinstance(answer, Refusal):
        # The result stands in the job directory all the same; whoever holds the lease now will find it.
        log.warning("not completed: %s %s", answer.reason, lease.label)
        return answer.reason
    counters.add(Count.SHARDS_COMPLETED)
    counters.add(Count.SEQUENCES_QUARANTINED, len(done.quarantine))
    run.discard_store()
    log.info("done %s embedded=%d quarantined=%d", lease.label, done.num_embedded, len(done.quarantine))
    state, exporter = answer
    job_dir, queue = str(run.job_dir.path), this_worker.entry.queue
    ask_for_export(app, manifest.job_id, job_dir, queue, state=state, export_by=exporter)
    return "done"


def insist(call: Callable[[], Answer]) -> Answer:
    """Repeat a call while the server is away. Every call of the manifest may be made twice."""
    deadline = time.monotonic() + INSIST_SECONDS
    while True:
        try:
            return call()
        except TRANSIENT:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
