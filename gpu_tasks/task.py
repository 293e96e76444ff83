"""The Celery tasks: embed one shard, export a finished job. The packages meet here, and in what they call.

A message is a wake-up call. The task asks the manifest for the shard, and drops a delivery that is
refused: whatever that costs, the reconciler mends. What may pass is waited for here, or the shard is given
back with a delay; Celery sends nothing again.
"""

import logging
from functools import partial
from pathlib import Path

import redis
from celery.signals import worker_process_init

from gpu_tasks.shard.attempt import work
from gpu_tasks.shard.canary_check import note_begun
from gpu_tasks.shard.getting_ready import GettingReady, find_job
from gpu_tasks.shard.job_model import load_and_check, load_exact
from gpu_tasks.shard.setbacks import AWAY, setbacks
from gpu_tasks.shard.worker_trouble import register_of, tell_export_failed
from queue_app.celery_app import EMBED_SHARD, EXPORT_JOB, app
from queue_app.coordination.dealing import deal_to
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.redis_client import client
from queue_app.coordination.states import JobState
from queue_app.host.memory import do_without_pandas
from queue_app.job.directory import JobDir
from queue_app.settings import runtime_config
from queue_app.worker.child_state import Stage
from queue_app.worker.device_worker import child_state, this_worker

log = logging.getLogger(__name__)


@worker_process_init.connect
def warm_up(**_: object) -> None:
    """Import torch while the producer still reads the input. Only the child does: the parent never may."""
    do_without_pandas()
    try:
        if runtime_config().preload_torch:
            import torch  # noqa: F401
    finally:  # what went wrong will do so again, and be told, when a model is loaded
        child_state.set_stage(Stage.IDLE)


@app.task(name=EMBED_SHARD)
def embed_shard(job_id: str, index: int) -> str:
    """Embed one shard of a job; answers how it ended, in a word.

    The model is loaded before the shard is asked for, so that a host without the model costs the shard
    no attempt.
    """
    outcome = setbacks.outlast(partial(_embed, job_id, index))
    if not child_state.is_draining():
        _ask_for_next()
    return outcome


def _ask_for_next() -> None:
    """Before this message is acknowledged the next one waits: between two shards a device stands still."""
    try:
        deal_to(client(), app, this_worker.entry)
    except (*AWAY, redis.ResponseError) as error:  # the parent asks as soon as the server is well
        log.warning("no next shard asked for: %s", error)


def _directory_of(manifest: CheckpointManifest) -> JobDir | None:
    """Where the job lies; None when the server does not know the job."""
    status = manifest.job_status()
    return JobDir(Path(status.job_dir)) if status is not None else None


def _embed(job_id: str, index: int) -> str:
    manifest = CheckpointManifest(client(), job_id)
    directory = _directory_of(manifest)
    if directory is None:
        return _drop("unknown", job_id, index)
    with child_state.during(Stage.GETTING_READY, job_id):
        begun = GettingReady(manifest, directory, index).begin(partial(load_and_check, directory=directory))
    if isinstance(begun, str):
        return _drop(begun, job_id, index)
    job, model, lease = begun
    with child_state.during(Stage.AT_WORK, job_id):
        note_begun(job, lease)
        return work(manifest, lease, job, directory, model, partial(load_exact, job, directory))


def _drop(why: str, job_id: str, index: int) -> str:
    log.info("dropped: %s job=%s shard=%d", why, job_id, index)
    return why


@app.task(name=EXPORT_JOB)
def export_job(job_id: str) -> str:
    """Write the job's output, once all its shards are done; where this host cannot, another is asked."""
    return setbacks.outlast(partial(_export, job_id))


def _export(job_id: str) -> str:
    manifest = CheckpointManifest(client(), job_id)
    status, directory = manifest.job_status(), _directory_of(manifest)
    if status is None or directory is None:
        return "unknown"
    if status.state is not JobState.DONE:
        return str(status.state)
    try:
        ended = write_output(manifest, directory)
    except AWAY:
        raise
    except Exception as error:
        return tell_export_failed(manifest, error)
    register_of(manifest).clear(this_worker.entry.name)
    return ended


def write_output(manifest: CheckpointManifest, directory: JobDir) -> str:
    """Answers in a word how it ended."""
    from queue_app.job.output_place import output_of
    from queue_app.outputs.export import export

    job = find_job(manifest, directory)
    if job is None:
        return "replaced"
    report = export(job, directory, output_of(job, directory))
    manifest.note_exported()
    log.info("exported job=%s output=%s rows=%d", job.job_id, report.output, report.num_embedded)
    return "exported"
