"""The Celery tasks: embed one shard, export a finished job. The packages meet here, and in what they call.

A message is a wake-up call. The task asks the manifest for the shard, and drops a delivery that is
refused: whatever that costs, the reconciler mends.
"""

import logging
from functools import lru_cache, partial
from typing import Any

from celery.exceptions import Reject
from celery.signals import worker_process_init
from kombu.exceptions import OperationalError
from redis import Redis

from gpu_tasks.errors import JobHopeless
from gpu_tasks.shard.attempt import work
from gpu_tasks.shard.canary_check import note_begun
from gpu_tasks.shard.getting_ready import GettingReady, find_job
from gpu_tasks.shard.job_model import load_and_check, load_exact
from gpu_tasks.shard.worker_trouble import pass_export_on
from queue_app.celery_app import EMBED_SHARD, EXPORT_JOB, app
from queue_app.coordination.dealing import deal_to
from queue_app.coordination.fleet import job_places
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.redis_client import TRANSIENT, client
from queue_app.errors import Damage, HoldfastError
from queue_app.host.memory import do_without_pandas
from queue_app.settings import RuntimeConfig, runtime_config
from queue_app.trust.job_places import JobPlaces
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


@app.task(
    name=EMBED_SHARD,
    bind=True,
    # Whatever it was may pass; the manifest counts the attempts, and gives up at the limit. What is the
    # host's own is counted as trouble, and not tried again by Celery unless the server was away.
    autoretry_for=(Exception,),
    dont_autoretry_for=(Reject, Damage, JobHopeless),
    retry_backoff=1,
    retry_backoff_max=runtime_config().retry_seconds,
    retry_jitter=True,
    max_retries=None,
)
def embed_shard(self: Any, job_id: str, index: int) -> str:
    """Embed one shard of a job; answers how it ended, in a word.

    The model is loaded before the shard is asked for, so that a host without the model costs the shard
    no attempt.
    """
    if not (isinstance(job_id, str) and isinstance(index, int)):
        log.error("dropped: no message of ours job=%r shard=%r", job_id, index)
        return "nonsense"
    outcome = _embed(CheckpointManifest(client(), job_id), index)
    if not child_state.is_draining():
        _ask_for_next()
    return outcome


def _ask_for_next() -> None:
    """Before this message is acknowledged the next one waits: between two shards a device stands still."""
    try:
        deal_to(client(), app, this_worker.entry)
    except (*TRANSIENT, OperationalError) as error:  # the parent asks as soon as the server is back
        log.warning("no next shard asked for: %s", error)


def _embed(manifest: CheckpointManifest, index: int) -> str:
    job_id = manifest.job_id
    with child_state.during(Stage.GETTING_READY, job_id):
        begun = GettingReady(manifest, _places(client(), runtime_config()), index).begin(load_and_check)
    if isinstance(begun, str):
        log.info("dropped: %s job=%s shard=%d", begun, job_id, index)
        return begun
    with child_state.during(Stage.AT_WORK, job_id):
        note_begun(begun.job, begun.lease)
        load = partial(load_exact, begun.job, begun.directory)
        return work(manifest, begun.lease, begun.job, begun.directory, begun.model, load)


@lru_cache(maxsize=1)
def _places(server: Redis, config: RuntimeConfig) -> JobPlaces:
    """Of this process: where jobs were is not looked for again."""
    return job_places(server)


@app.task(
    name=EXPORT_JOB,
    bind=True,
    autoretry_for=(*TRANSIENT, OSError, HoldfastError),
    retry_backoff=1,
    retry_backoff_max=runtime_config().retry_seconds,
    max_retries=20,
)
def export_job(self: Any, job_id: str) -> str:
    """Write the job's output, once all its shards are done; where this host cannot, another is asked."""
    manifest = CheckpointManifest(client(), job_id)
    try:
        return write_output(manifest)
    except Exception as error:
        if pass_export_on(manifest, error):
            return "passed on"
        raise


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
