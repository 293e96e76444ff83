"""How workers are told of a job: its shards are dealt to those that wait, its output is asked of one.

A message is only a wake-up call, so one too many does no harm, and one that is lost is sent again.
"""

import logging
from collections.abc import Mapping, Sequence

import redis
from celery import Celery

from queue_app.celery_app import EXPORT_JOB
from queue_app.coordination.dealing import deal_to_idle, deal_to_queue
from queue_app.coordination.fleet import take_job
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.redis_client import ring_of
from queue_app.coordination.states import JobState, ShardState
from queue_app.coordination.trust.values import Garbage
from queue_app.coordination.workers import live_workers
from queue_app.job.directory import JobDir
from queue_app.job.done_records import finished_shards
from queue_app.job.spec import Job, Progress
from queue_app.settings import runtime_config

log = logging.getLogger(__name__)


def announce(client: redis.Redis, app: Celery, job: Job, job_dir: JobDir, queues: Sequence[str]) -> int:
    """Fill the manifest from the job directory and wake workers for what is left.

    From here on the job is this server's fleet's. One that was cancelled, paused or given up goes on. Each of
    `queues` that no worker serves yet gets one shard to begin with. Answers how many shards are left.

    Raises:
        UsageError: there is a key file, and no key in it: no worker would take what is sent without.
    """
    ring_of(client)
    take_job(client, job_dir)
    manifest = CheckpointManifest(client, job.job_id)
    done = finished_shards(job, job_dir, remove_damaged=True)
    try:
        _fill(manifest, job, job_dir, done, queues)
    except Garbage as fault:  # an index, which the directory makes anew
        log.warning("%s: forgotten, and made known anew job=%s", fault, job.job_id)
        manifest.forget()
        _fill(manifest, job, job_dir, done, queues)
    kind = job.options.device_class
    deal_to_idle(client, app, kind)
    served = {worker.queue for worker in live_workers(client, runtime_config().lease_seconds)}
    for queue in set(queues) - served:
        deal_to_queue(client, app, queue, kind)
    return len(job.shards) - len(done)


def _fill(
    manifest: CheckpointManifest,
    job: Job,
    job_dir: JobDir,
    done: Mapping[int, Progress],
    queues: Sequence[str],
) -> None:
    manifest.initialize(job, str(job_dir.path), done, queues)
    correct(manifest, job, done)
    job_dir.held.unlink(missing_ok=True)
    manifest.revive()


def correct(manifest: CheckpointManifest, job: Job, done: Mapping[int, Progress]) -> None:
    """Where manifest and job directory disagree on what is done, the directory is right."""
    for status in manifest.all_statuses(len(job.shards)):
        if status.index in done and status.state is not ShardState.DONE:
            manifest.restore(status.index, done[status.index])
        elif status.index not in done and status.state is ShardState.DONE:
            manifest.reopen(status.index)


def ask_for_export(app: Celery, job_id: str, queue: str, *, state: JobState, export_by: str) -> bool:
    """Have a worker write the output where the job is done and no coordinator will; answers whether."""
    is_wanted = state is JobState.DONE and export_by == "workers"
    if is_wanted:
        app.send_task(EXPORT_JOB, args=[job_id], queue=queue)
    return is_wanted
