"""Every message to a worker: one for each shard that is left, and one for the output of a job that is done.

A message is only a wake-up call, so one too many does no harm, and one that is lost is sent again.
"""

from collections.abc import Mapping, Sequence

import redis
from celery import Celery

from queue_app.celery_app import EMBED_SHARD, EXPORT_JOB
from queue_app.coordination.fleet import take_job
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.routing import deal
from queue_app.coordination.states import JobState, ShardState
from queue_app.job.directory import JobDir
from queue_app.job.done_records import finished_shards
from queue_app.job.spec import Job, Progress


def announce(
    client: redis.Redis, app: Celery, job: Job, job_dir: JobDir, queues: Sequence[str], *, resend_all: bool
) -> int:
    """Fill the manifest from the job directory and wake workers for what is left.

    From here on the job is this server's fleet's. One that was cancelled, paused or given up goes on.
    `resend_all` sends every pending shard again, whatever was sent before (the queues may have changed or be
    lost); otherwise only those that no message is under way for. Answers how many messages were sent.
    """
    take_job(client, job_dir)
    manifest = CheckpointManifest(client, job.job_id)
    routes = deal(job.shards, queues)
    done = finished_shards(job, job_dir, remove_damaged=True)
    manifest.initialize(job, str(job_dir.path), routes, done)
    correct(manifest, job, done)
    job_dir.held.unlink(missing_ok=True)
    manifest.revive()
    pending = [
        status.index
        for status in manifest.shard_statuses(shard.index for shard in job.shards)
        if status.state is ShardState.PENDING and (resend_all or status.sent_at == 0)
    ]
    send_shards(app, manifest, str(job_dir.path), {index: routes[index] for index in pending})
    return len(pending)


def correct(manifest: CheckpointManifest, job: Job, done: Mapping[int, Progress]) -> None:
    """Where manifest and job directory disagree on what is done, the directory is right."""
    for status in manifest.shard_statuses(shard.index for shard in job.shards):
        if status.index in done and status.state is not ShardState.DONE:
            manifest.restore(status.index, done[status.index])
        elif status.index not in done and status.state is ShardState.DONE:
            manifest.reopen(status.index)


def send_shards(app: Celery, manifest: CheckpointManifest, job_dir: str, routes: Mapping[int, str]) -> None:
    """Send one message per shard, then note it: a crash between the two costs a second message."""
    with app.producer_or_acquire() as producer:
        for index, queue in routes.items():
            app.send_task(EMBED_SHARD, args=[manifest.job_id, job_dir, index], queue=queue, producer=producer)
    manifest.mark_sent(routes)


def ask_for_export(
    app: Celery, job_id: str, job_dir: str, queue: str, *, state: JobState, export_by: str
) -> bool:
    """Have a worker write the output where the job is done and no coordinator will; answers whether."""
    is_wanted = state is JobState.DONE and export_by == "workers"
    if is_wanted:
        app.send_task(EXPORT_JOB, args=[job_id, job_dir], queue=queue)
    return is_wanted
