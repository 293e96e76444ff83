"""One attempt at a shard: from the lease that the manifest grants to what it is told of the end.

The lease is given back whatever happens. What the manifest is told is repeated while the server is away.
"""

import logging
import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from importlib.metadata import version
from typing import TYPE_CHECKING, TypeVar

from celery.exceptions import Reject

from checkpoint import CheckpointStore
from checkpoint.errors import StaleToken
from checkpoint.records import DoneRecord
from gpu_tasks.errors import JobHopeless
from gpu_tasks.inference.device_errors import Fault, fault_of
from gpu_tasks.inference.model import EmbeddingModel
from gpu_tasks.shard.canary_check import device_name, is_exact, load_reference
from queue_app.celery_app import EXPORT_JOB, app
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.owner import Owner
from queue_app.coordination.redis_client import TRANSIENT
from queue_app.coordination.states import JobState, Lease, Refusal
from queue_app.coordination.worker_figures import Figures, Pace
from queue_app.errors import Damage
from queue_app.host.devices import processor_name
from queue_app.host.gpu_load import GpuLoad, gpu_load
from queue_app.host.memory import give_memory_back
from queue_app.job.directory import JobDir
from queue_app.job.history import Attempt, AttemptLog, Outcome
from queue_app.job.spec import Job, Progress
from queue_app.settings import runtime_config
from queue_app.worker.device_worker import is_draining, pulse, worker_name
from queue_app.worker.heartbeat import Heartbeat
from queue_app.worker.leases import take_away, why_gone
from queue_app.worker.metrics.counters import Count, tally

if TYPE_CHECKING:
    from gpu_tasks.shard.shard_run import ShardRun

log = logging.getLogger(__name__)

RELEASE_DELAY_SECONDS = 1.0
INSIST_SECONDS = 60.0

Answer = TypeVar("Answer")

_pace = Pace()
"""Of this process, over all its shards."""


def acquire(manifest: CheckpointManifest, job: Job, directory: JobDir, index: int) -> Lease | Refusal:
    """Ask for the shard; the floor from the store keeps a flushed server from giving an old token again."""
    config = runtime_config()

    def ask() -> Lease | Refusal:
        return manifest.acquire(
            job.shards[index],
            owner=Owner.current(worker_name()).encode(),
            floor=CheckpointStore.floor(directory.checkpoint(index, job.job_id, config.scratch)),
            attempt_limit=config.attempt_limit,
        )

    answer = ask()
    if isinstance(answer, Refusal) and answer.reason == "held" and outlived(manifest, index):
        return ask()
    return answer


def outlived(manifest: CheckpointManifest, index: int) -> bool:
    """True when the shard's holder had died on this host, and its lease is taken away now.

    The message of a process that was killed often comes back before any observer has looked.
    """
    status = manifest.shard_status(index)
    reason = why_gone(status) if status is not None else None
    return status is not None and reason is not None and take_away(manifest, status, reason)


def work(
    manifest: CheckpointManifest, lease: Lease, job: Job, directory: JobDir, model: EmbeddingModel
) -> str:
    """Run the leased shard and report how it ended, in a word."""
    device = "cpu" if job.model.family == "mock" else device_name(job)
    history = AttemptLog(directory, new_attempt(lease, device))
    figures = partial(current_figures, device)
    with Heartbeat(manifest, lease, runtime_config().beat_seconds, figures) as heartbeat, pulse.at_work():
        run = shard_run(job, directory, lease, model, heartbeat, history)
        try:
            done = run.run()
            history.note(outcome=outcome_of(done, heartbeat))
        except StaleToken:
            history.note(outcome=Outcome.LOST)
            log.warning("fenced %s", run.label)
            return "fenced"
        except Damage as error:
            # No other attempt would find better data.
            reason = str(error)
            insist(lambda: manifest.fail(lease, reason))
            history.fail(reason)
            raise
        except JobHopeless as error:
            reason = str(error)
            insist(lambda: manifest.fail(lease, reason, whole_job=True))
            history.fail(reason)
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            insist(lambda: manifest.release(lease, reason, delay_seconds=RELEASE_DELAY_SECONDS))
            history.fail(reason)
            tally.add(Count.SHARD_RETRIES)
            if fault_of(error) is Fault.LOST:
                leave_process(reason)
            raise
        if done is None:
            return give_back(manifest, lease, heartbeat)
    give_memory_back()
    return finish(manifest, lease, run, done, heartbeat.progress)


def shard_run(
    job: Job,
    directory: JobDir,
    lease: Lease,
    model: EmbeddingModel,
    heartbeat: Heartbeat,
    history: AttemptLog,
) -> "ShardRun":
    """The run of the shard, tied to what watches over this process."""
    from gpu_tasks.shard.shard_run import ShardRun

    def should_stop() -> bool:
        pulse.beat()  # asked before each batch
        return is_draining() or heartbeat.should_stop()

    @cache
    def load_exact() -> EmbeddingModel:
        return load_reference(job, directory)

    return ShardRun(
        job=job,
        job_dir=directory,
        lease=lease,
        model=model,
        config=runtime_config(),
        report=heartbeat.report,
        should_stop=should_stop,
        load_exact=None if is_exact(job) else load_exact,
        pace=_pace,
        tally=tally,
        history=history,
    )


def new_attempt(lease: Lease, device: str) -> Attempt:
    """What is known of an attempt when it begins."""
    now = time.time()
    name, torch = hardware_name(device), version("torch")
    shard = lease.shard
    return Attempt(shard.job_id, shard.index, lease.token, worker_name(), name, torch, began=now, seen=now)


@cache
def hardware_name(device: str) -> str:
    """What computes here, as its maker calls it."""
    if device == "cpu":
        return processor_name()
    import torch

    return str(torch.cuda.get_device_name(device))


def current_figures(device: str) -> Figures:
    """This process's pace, and what the driver says of its GPU where there is one."""
    figures = _pace.figures()
    load = _load_of(device)
    if load is None:
        return figures
    return replace(
        figures,
        gpu_share=load.share,
        gpu_memory_bytes=load.memory_bytes,
        gpu_memory_total_bytes=load.memory_total_bytes,
    )


def _load_of(device: str) -> GpuLoad | None:
    if device == "cpu":
        return None
    from gpu_tasks.inference.torch_device import hardware_id

    try:
        return gpu_load(hardware_id(device))
    except (RuntimeError, AssertionError):  # torch sees no device: loading the model says so
        return None


def outcome_of(done: DoneRecord | None, heartbeat: Heartbeat) -> Outcome:
    """Without a done record the attempt stopped at a batch boundary."""
    if done is not None:
        return Outcome.DONE
    return Outcome.LOST if heartbeat.lost.is_set() else Outcome.STOPPED


def give_back(manifest: CheckpointManifest, lease: Lease, heartbeat: Heartbeat) -> str:
    """The shard was stopped at a batch boundary: by the worker's end, a pause, a cancel or a lost lease."""
    insist(lambda: manifest.release(lease, "stopped early", counts=False))
    if is_draining():
        raise Reject("the worker is shutting down", requeue=True)
    return "lost" if heartbeat.lost.is_set() else str(heartbeat.job_state)


def finish(
    manifest: CheckpointManifest, lease: Lease, run: "ShardRun", done: DoneRecord, reported: Progress | None
) -> str:
    """Tell the manifest; the last shard of a job wakes the export."""
    batches = reported.batches_done if reported else 0
    progress = Progress(batches, done.num_embedded, len(done.quarantine))
    answer = insist(lambda: manifest.complete(lease, progress, done.quarantine))
    if isinstance(answer, Refusal):
        # The result stands in the job directory all the same; whoever holds the lease now will find it.
        log.warning("not completed: %s %s", answer.reason, run.label)
        return answer.reason
    tally.add(Count.SHARDS_COMPLETED)
    tally.add(Count.SEQUENCES_QUARANTINED, len(done.quarantine))
    run.discard_store()
    log.info("done %s embedded=%d quarantined=%d", run.label, done.num_embedded, len(done.quarantine))
    state, exporter = answer
    if state is JobState.DONE and exporter == "workers":
        app.send_task(
            EXPORT_JOB, args=[manifest.job_id, str(run.job_dir.path)], queue=worker_name().split("@")[0]
        )
    return "done"


def leave_process(reason: str) -> None:
    """Without its CUDA context a process computes nothing any more. What was safe is committed."""
    log.critical("this process ends, another takes its place: %s", reason)
    os._exit(1)  # the parent gives the message back, and forks anew


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
