"""The Celery tasks: embed one shard, export a finished job. The packages meet here, and in what they call.

A message is a wake-up call. The task asks the manifest for the shard, and drops a delivery that is
refused: whatever that costs, the reconciler mends.
"""

import logging
import os
import signal
import time
from pathlib import Path
from typing import Any

from celery.exceptions import Reject
from celery.signals import worker_process_init

from gpu_tasks.attempt import acquire, give_up, work
from gpu_tasks.errors import DeviceUnavailable, JobHopeless, ModelLoadError, NumericsDeviate
from gpu_tasks.job_model import load_job_model
from gpu_tasks.models import EmbeddingModel
from gpu_tasks.watch import device_name, note_begun, watch_canary
from queue_app.broker import TRANSIENT, client
from queue_app.celery_app import EMBED_SHARD, EXPORT_JOB, app
from queue_app.errors import Damage, HoldfastError, JobNotFound
from queue_app.frugal import do_without_pandas
from queue_app.job import Job, JobDir
from queue_app.manifest import CheckpointManifest
from queue_app.settings import runtime_config
from queue_app.states import Refusal
from queue_app.worker import worker_name

log = logging.getLogger(__name__)

_loaded: dict[tuple[object, ...], EmbeddingModel] = {}
"""At most one model."""


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
    dont_autoretry_for=(Reject, Damage, JobHopeless),
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
    manifest = CheckpointManifest(client(), job_id)
    try:
        model = load_once(job, directory)
        watch_canary(job, directory, model)
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


def load_once(job: Job, directory: JobDir) -> EmbeddingModel:
    """The model stays in the process from task to task, until a job wants another one."""
    options = job.options
    wanted = (job.model, options.device_class, options.dtype, options.pool, options.layers, job.threads)
    if wanted not in _loaded:
        _loaded.clear()  # first: the device's memory may not hold two
        started = time.monotonic()
        device = device_name(job)
        model = load_job_model(job, directory, device=device, dtype=options.dtype, threads=job.threads)
        watch_canary(job, directory, model)
        _loaded[wanted] = model
        seconds = time.monotonic() - started
        log.info("model loaded name=%s device=%s seconds=%.1f", job.model.name, device, seconds)
    return _loaded[wanted]


def end_worker(reason: str) -> None:
    """Without its device a worker is of no use: its queue's shards move to other ones when it is gone."""
    log.critical(reason)
    os.kill(os.getppid(), signal.SIGTERM)


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
    from queue_app.place import output_of

    directory = JobDir(Path(job_dir))
    job = load_job(directory, job_id)
    if job is None:
        return "replaced"
    report = export(job, directory, output_of(job, directory))
    log.info("exported job=%s output=%s rows=%d", job_id, report.output, report.num_embedded)
    return "exported"
