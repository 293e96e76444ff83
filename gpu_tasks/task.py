"""The Celery tasks: embed one shard, export a finished job. The one place where the packages meet.

A message is a wake-up call. The task asks the manifest for the shard, and drops a delivery that is
refused: whatever that costs, the reconciler mends.
"""

import logging
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from celery.exceptions import Reject
from celery.signals import worker_process_init

from checkpoint import CheckpointStore
from checkpoint.errors import StaleToken
from checkpoint.records import DoneRecord
from gpu_tasks.errors import DeviceUnavailable, ModelLoadError, NumericsDeviate, is_device_lost
from gpu_tasks.gpu_load import gpu_load
from gpu_tasks.models import EmbeddingModel, load_model
from gpu_tasks.watch import device_name, is_exact, load_reference, note_begun, watch_canary
from queue_app.broker import TRANSIENT, client
from queue_app.celery_app import EMBED_SHARD, EXPORT_JOB, app
from queue_app.devices import processor_name
from queue_app.errors import Damage, HoldfastError, JobNotFound, ModelError
from queue_app.figures import Figures, Pace
from queue_app.frugal import do_without_pandas, give_memory_back
from queue_app.heartbeat import Heartbeat
from queue_app.history import Attempt, AttemptLog, Outcome
from queue_app.job import Job, JobDir
from queue_app.leases import take_away, why_gone
from queue_app.manifest import CheckpointManifest
from queue_app.model_card import describe_model
from queue_app.owner import Owner
from queue_app.settings import runtime_config
from queue_app.states import JobState, Lease, Progress, Refusal
from queue_app.tally import Count, tally
from queue_app.worker import is_draining, pulse, worker_name

log = logging.getLogger(__name__)

RELEASE_DELAY_SECONDS = 1.0
INSIST_SECONDS = 60.0

Answer = TypeVar("Answer")

_loaded: dict[tuple[object, ...], EmbeddingModel] = {}
"""At most one model."""
_pace = Pace()
"""Of this process, over all its shards."""


@worker_process_init.connect
def warm_up(**_: object) -> None:
    """Import torch while the producer still reads the input. Only the child does: the parent never may."""
    do_without_pandas()
    if runtime_config().preload_torch:
        import torch  # noqa: F401


@app.task(
    name=EMBED_SHARD,
    bind=True,
    # Whatever it was may pass; the manifest counts the attempts, and gives up at the limit.
    autoretry_for=(Exception,),
    dont_autoretry_for=(Reject, Damage),
    retry_backoff=1,
    retry_backoff_max=runtime_config().retry_seconds,
    retry_jitter=True,
    max_retries=None,
)
def embed_shard(self: Any, job_id: str, job_dir: str, index: int) -> str:
    """Embed one shard of a job; answers how it ended, in a word.

    The model is loaded before the shard is asked for, so that a host without the model costs the shard
    no attempt.
    """
    if not (isinstance(job_id, str) and isinstance(job_dir, str) and isinstance(index, int)):
        log.error("dropped: no message of ours job=%r dir=%r shard=%r", job_id, job_dir, index)
        return "nonsense"
    directory = JobDir(Path(job_dir))
    job = load_job(directory, job_id)
    if job is None or not 0 <= index < len(job.shards):
        log.info("dropped: another job lies there now job=%s dir=%s", job_id, job_dir)
        return "replaced"
    check_model(job.model.path, job.model.digest)
    manifest = CheckpointManifest(client(), job_id)
    try:
        model = load_once(job)
        watch_canary(job, model)
    except ModelLoadError as error:
        return give_up(manifest, job, directory, index, str(error))
    except (DeviceUnavailable, NumericsDeviate) as error:
        end_worker(f"{worker_name()}: {error}")
        raise Reject(error, requeue=True) from None
    answer = acquire(manifest, job, directory, index)
    if isinstance(answer, Refusal):
        log.info("dropped: %s job=%s shard=%d", answer.reason, job_id, index)
        return answer.reason
    note_begun(job, answer)
    return work(manifest, answer, job, directory, model)


def load_job(directory: JobDir, job_id: str) -> Job | None:
    """None when the directory was given to another job, or is gone."""
    try:
        job = directory.load()
    except JobNotFound:
        return None
    return job if job.job_id == job_id else None


@cache
def check_model(path: str, digest: str) -> None:
    """Raises ModelError when this host's model is not the one that the job was submitted with."""
    if describe_model(path).digest != digest:
        raise ModelError(f"{path}: not the model of the job; copy that one to this host")


def load_once(job: Job) -> EmbeddingModel:
    """The model stays in the process from task to task, until a job wants another one."""
    options = job.options
    wanted = (job.model, options.device_class, options.dtype, options.pool, options.layers, job.threads)
    if wanted not in _loaded:
        _loaded.clear()  # first: the device's memory may not hold two
        started = time.monotonic()
        device = device_name(job)
        model = load_model(
            job.model.path, device=device, dtype=options.dtype, pool=options.pool, layers=options.layers,
            threads=job.threads,
        )  # fmt: skip
        watch_canary(job, model)
        _loaded[wanted] = model
        seconds = time.monotonic() - started
        log.info("model loaded name=%s device=%s seconds=%.1f", job.model.name, device, seconds)
    return _loaded[wanted]


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


def end_worker(reason: str) -> None:
    """Without its device a worker is of no use: its queue's shards move to other ones when it is gone."""
    log.critical(reason)
    os.kill(os.getppid(), signal.SIGTERM)


def leave_process(reason: str) -> None:
    """Without its CUDA context a process computes nothing any more. What was safe is committed."""
    log.critical("this process ends, another takes its place: %s", reason)
    os._exit(1)  # the parent gives the message back, and forks anew


def give_up(manifest: CheckpointManifest, job: Job, directory: JobDir, index: int, reason: str) -> str:
    """Fail a shard whose model, though the files are the job's own, cannot be loaded anywhere."""
    log.error("model does not load job=%s: %s", job.job_id, reason)
    answer = acquire(manifest, job, directory, index)
    if isinstance(answer, Refusal):
        return answer.reason
    insist(lambda: manifest.fail(answer, reason))
    return "failed"


def work(
    manifest: CheckpointManifest, lease: Lease, job: Job, directory: JobDir, model: EmbeddingModel
) -> str:
    """Run the leased shard and report how it ended. The lease is given back whatever happens."""
    from gpu_tasks.shard_run import ShardRun

    config = runtime_config()
    device = "cpu" if job.model.family == "mock" else device_name(job)
    history = AttemptLog(directory, new_attempt(lease, device))
    figures = partial(current_figures, device)
    with Heartbeat(manifest, lease, config.beat_seconds, figures) as heartbeat, pulse.at_work():

        def should_stop() -> bool:
            pulse.beat()  # asked before each batch
            return is_draining() or heartbeat.should_stop()

        run = ShardRun(
            job=job,
            job_dir=directory,
            lease=lease,
            model=model,
            config=config,
            report=heartbeat.report,
            should_stop=should_stop,
            load_exact=None
            if is_exact(job)
            else cache(lambda: load_reference(job.model, job.options.pool, job.options.layers)),
            pace=_pace,
            tally=tally,
            history=history,
        )
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
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            insist(lambda: manifest.release(lease, reason, delay_seconds=RELEASE_DELAY_SECONDS))
            history.fail(reason)
            tally.add(Count.SHARD_RETRIES)
            if is_device_lost(error):
                leave_process(reason)
            raise
        if done is None:
            return give_back(manifest, lease, heartbeat)
    give_memory_back()
    return finish(manifest, lease, run, done, heartbeat.progress)


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
    load = None if device == "cpu" else gpu_load()
    if load is None:
        return figures
    return replace(
        figures,
        gpu_share=load.share,
        gpu_memory_bytes=load.memory_bytes,
        gpu_memory_total_bytes=load.memory_total_bytes,
    )


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
    manifest: CheckpointManifest, lease: Lease, run: Any, done: DoneRecord, reported: Progress | None
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


@app.task(
    name=EXPORT_JOB,
    bind=True,
    autoretry_for=(*TRANSIENT, OSError, HoldfastError),
    retry_backoff=1,
    retry_backoff_max=runtime_config().retry_seconds,
    max_retries=20,
)
def export_job(self: Any, job_id: str, job_dir: str) -> str:
    """Write the job's output, once all its shards are done."""
    from queue_app.export import export

    directory = JobDir(Path(job_dir))
    job = load_job(directory, job_id)
    if job is None:
        return "replaced"
    report = export(job, directory, Path(job.output))
    log.info("exported job=%s output=%s rows=%d", job_id, report.output, report.num_embedded)
    return "exported"
