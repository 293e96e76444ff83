"""A job at a glance: one snapshot, read from the server, or from the job directory where there is none."""

from collections.abc import Sequence
from dataclasses import replace

import redis

from queue_app.coordination.events import read_events
from queue_app.coordination.find_job import named_directory, server_url
from queue_app.coordination.job_speed import speed_of
from queue_app.coordination.manifest import CheckpointManifest, known_jobs
from queue_app.coordination.redis_client import TRANSIENT, check, connect
from queue_app.coordination.states import JobState, JobStatus, ShardState, ShardStatus, Trouble
from queue_app.coordination.trouble import read_troubles
from queue_app.coordination.trust.values import Garbage
from queue_app.coordination.workers import Owner, WorkerEntry, live_workers, server_time
from queue_app.errors import JobNotFound
from queue_app.host.queues import Queue
from queue_app.settings import runtime_config
from queue_app.status.directory_snapshot import snapshot_of_directory
from queue_app.status.job_snapshot import JobSnapshot, WorkerView


def snapshot(client: redis.Redis, job_id: str, *, lease_seconds: float) -> JobSnapshot | None:
    """What the server knows; None when it does not know the job. Raises Garbage."""
    manifest = CheckpointManifest(client, job_id)
    status = manifest.job_status()
    if status is None:
        return None
    is_running = status.state is JobState.RUNNING
    speed = speed_of(manifest.samples() if is_running else (), server_time(client))
    return JobSnapshot(
        job=job_id,
        state=status.state,
        total=status.sequences_total,
        done=status.sequences_done,
        quarantined=status.sequences_quarantined,
        num_shards=status.num_shards,
        shards={str(state): count for state, count in status.shards.items()},
        rate=speed.sequences,
        eta_seconds=speed.seconds_for(status.cost_total - status.cost_done),
        workers=_workers(manifest, status, live_workers(client, lease_seconds)),
        trouble=status.trouble,
        events=read_events(client, job_id),
        one_kind=status.one_kind,
    )


def _workers(
    manifest: CheckpointManifest, status: JobStatus, entries: Sequence[WorkerEntry]
) -> tuple[WorkerView, ...]:
    running = manifest.readable_statuses(manifest.running()) if status.shards[ShardState.RUNNING] else []
    held = {owner.worker: shard for shard in running if (owner := Owner.decode(shard.owner))}
    troubles = read_troubles(manifest.client, manifest.job_id)
    return tuple(
        _worker(entry, held.get(entry.name), troubles.get(entry.name))
        for entry in sorted(entries, key=lambda entry: (entry.host, Queue.parse(entry.queue)))
    )


def _worker(entry: WorkerEntry, shard: ShardStatus | None, trouble: Trouble | None) -> WorkerView:
    return WorkerView(
        name=entry.name,
        queue=entry.queue,
        device=entry.device,
        host=entry.host,
        pid=entry.pid,
        child_pid=entry.child_pid,
        shard=shard.index if shard else None,
        shard_done=shard.sequences_done + shard.quarantined if shard else 0,
        shard_total=shard.num_records if shard else 0,
        figures=shard.figures if shard else None,
        trouble=None if shard else trouble,
    )


def snapshots(job: str | None, broker: str | None) -> list[JobSnapshot]:
    """One job's snapshot, or those of every job of the server.

    Raises:
        JobNotFound: nobody knows the job.
        BrokerUnreachable: there is no server, and nothing on disk to read instead.
    """
    if job is None:
        url = server_url(None, broker)
        client = connect(url)
        check(client, url)
        return [found for job_id in known_jobs(client) if (found := ask_or_fault(client, job_id))]
    directory = named_directory(job)
    client = connect(server_url(directory, broker))
    fault = ""
    try:
        found = _ask(client, directory.load().job_id if directory else job)
    except (*TRANSIENT, redis.AuthenticationError):
        found = None
        if directory is None:
            check(client, server_url(directory, broker))
    except Garbage as error:
        if directory is None:
            raise
        found, fault = None, str(error)
    if found is None and directory is not None:
        found = snapshot_of_directory(directory.load(), directory, runtime_config().scratch)
        found = replace(found, trouble=fault or found.trouble)
    if found is None:
        raise JobNotFound(f"{job}: neither a job directory nor a job that the server knows")
    return [found]


def ask_or_fault(client: redis.Redis, job_id: str) -> JobSnapshot | None:
    """One job of a list: of one of which the server holds garbage, just that."""
    try:
        return _ask(client, job_id)
    except Garbage as fault:
        return JobSnapshot(
            job=job_id,
            state=JobState.STOPPED,
            total=0,
            done=0,
            quarantined=0,
            num_shards=0,
            shards={str(state): 0 for state in ShardState},
            rate=0.0,
            eta_seconds=None,
            trouble=str(fault),
        )


def _ask(client: redis.Redis, job_id: str) -> JobSnapshot | None:
    return snapshot(client, job_id, lease_seconds=runtime_config().lease_seconds)
