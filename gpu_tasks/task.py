"""The Celery tasks: embed one shard, export a finished job. The packages meet here, and in what they call.

A message is a wake-up call. The task asks the manifest for the shard, and drops a delivery that is
refused: whatever that costs, the reconciler mends. What may pass is waited for here, or the shard is given
back with a delay; Celery sends nothing again.
"""

import logging
from functools import lru_cache, partial

from celery.signals import worker_process_init
from redis import Redis

from gpu_tasks.shard.getting_ready import GettingReady, find_job
from gpu_tasks.shard.job_model import load_and_check, load_float32
from gpu_tasks.shard.numerics.canary_check import note_begun
from gpu_tasks.shard.overlap.side_by_side import side_by_side
from gpu_tasks.shard.trouble.setbacks import AWAY, setbacks
from gpu_tasks.shard.trouble.worker_trouble import register_of, tell_export_failed, unless_garbage
from queue_app.celery_app import EMBED_SHARD, EXPORT_JOB, app
from queue_app.coordination.fleet import job_places
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.redis_client import client
from queue_app.coordination.states import JobState
from queue_app.coordination.trust.job_places import JobPlaces
from queue_app.host.memory import do_without_pandas
from queue_app.settings import RuntimeConfig, runtime_config
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
    no attempt. Where the next shard is on its way by then, this one is published beside it.
    """
    outcome = setbacks.outlast(partial(unless_garbage, job_id, partial(_embed, job_id, index)))
    side_by_side.ask_for_next()
    return outcome


def _embed(job_id: str, index: int) -> str:
    manifest = CheckpointManifest(client(), job_id)
    with side_by_side.task(job_id, index):
        with child_state.during(Stage.GETTING_READY, job_id):
            places = _places(client(), runtime_config())
            begun = GettingReady(manifest, places, index, side_by_side.claim).begin(load_and_check)
        if isinstance(begun, str):
            log.info("dropped: %s job=%s shard=%d", begun, job_id, index)
            return begun
        with child_state.during(Stage.AT_WORK, job_id):
            note_begun(begun.job, begun.lease)
            return side_by_side.work(manifest, begun, partial(load_float32, begun.job, begun.directory))


@lru_cache(maxsize=1)
def _places(server: Redis, config: RuntimeConfig) -> JobPlaces:
    """Of this process: where jobs were is not looked for again."""
    return job_places(server)


@app.task(name=EXPORT_JOB)
def export_job(job_id: str) -> str:
    """Write the job's output, once all its shards are done; where this host cannot, another is asked."""
    return setbacks.outlast(partial(unless_garbage, job_id, partial(_export, job_id)))


def _export(job_id: str) -> str:
    manifest = CheckpointManifest(client(), job_id)
    status = manifest.job_status()
    if status is None:
        return "unknown"
    if status.state is not JobState.DONE:
        return str(status.state)
    try:
        ended = write_output(manifest)
    except AWAY:
        raise
    except Exception as error:
        return tell_export_failed(manifest, error)
    register_of(manifest).clear(this_worker.entry.name)
    return ended


def write_output(manifest: CheckpointManifest) -> str:
    """Answers in a word how it ended. An output that stands already is left as it is."""
    from queue_app.outputs.export import export_once

    found = find_job(manifest, _places(client(), runtime_config()))
    if found is None:
        return "replaced"
    job, directory = found
    report = export_once(job, directory)
    manifest.note_exported()
    if report is None:
        return "exported before"
    log.info("exported job=%s output=%s rows=%d", job.job_id, report.output, report.num_embedded)
    return "exported"
