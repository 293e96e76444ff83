"""Trouble: what keeps a worker from beginning a shard, counted per job and worker, and when that ends a job.

One hash per job on the server, a field per worker. A worker that begins a shard takes its own away. While
others get on, trouble is only shown; the job ends when all that it could run on fail again and again.
"""

import json
import random
from collections.abc import Mapping
from dataclasses import asdict
from typing import cast

import redis

from queue_app.coordination import keys
from queue_app.coordination.events import EventKind, publish
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.states import TIMES_MOST, JobState, ShardState, Trouble
from queue_app.coordination.workers import WorkerEntry, live_workers, server_time
from queue_app.host.queues import device_class_of
from queue_app.wording import count

PASSING_TIMES_MOST = 20
"""The same of what may pass by itself, as a file system that is away: some three minutes."""
KILLED_TIMES_MOST = 10
"""The same of a process that is killed: before that its supervisor tries whether fewer workers will do."""
BACKOFF_MOST = 4
"""The wait doubles so often at most before `retry_seconds` bound it."""
WORDS_MOST = 600
COMES_BACK_LEASES = 4
"""A worker that fell silent may come back within so many leases."""


class TroubleRegister:
    """The troubles of one job. Raises redis errors as they come."""

    def __init__(self, client: redis.Redis, job_id: str, *, retry_seconds: float) -> None:
        self.client = client
        self.job_id = job_id
        self.retry_seconds = retry_seconds

    def note(self, worker: str, text: str, *, times_most: int = TIMES_MOST) -> Trouble:
        """Count one more failure of a worker; only this worker's own processes call it, one at a time."""
        now, before = server_time(self.client), self.all().get(worker)
        words = " ".join(text.split())[:WORDS_MOST]
        times = before.times + 1 if before else 1
        wait = min(self.retry_seconds, 2.0 ** min(times - 1, BACKOFF_MOST)) * random.uniform(0.5, 1.0)
        noted = Trouble(words, times, before.since if before else now, now, now + wait, times_most)
        self.client.hset(keys.trouble(self.job_id), worker, json.dumps(asdict(noted)))
        if before is None or before.text != words:
            publish(self.client, self.job_id, EventKind.TROUBLE, f"{worker} cannot begin: {words}")
        return noted

    def clear(self, worker: str) -> None:
        """The worker has begun a shard of the job."""
        self.client.hdel(keys.trouble(self.job_id), worker)

    def all(self) -> dict[str, Trouble]:
        """By worker, dead ones among them."""
        return read_troubles(self.client, self.job_id)

    def wait_seconds(self, trouble: Trouble) -> float:
        """How long until it is to be tried again; never longer than `retry_seconds`."""
        return max(0.0, min(self.retry_seconds, trouble.retry_at - server_time(self.client)))

    def others(self, queue: str, lease_seconds: float) -> list[str]:
        """Other queues for the same kind of device, whose live worker has no lasting trouble with the job."""
        hopeless = {worker for worker, trouble in self.all().items() if trouble.is_lasting}
        return sorted(
            entry.queue
            for entry in live_workers(self.client, lease_seconds)
            if entry.queue != queue and entry.name not in hopeless and entry.kind == device_class_of(queue)
        )


def read_troubles(client: redis.Redis, job_id: str) -> dict[str, Trouble]:
    """Every worker's trouble with a job, by its name."""
    entries = cast("Mapping[str, str]", client.hgetall(keys.trouble(job_id)))
    return {worker: Trouble(**json.loads(text)) for worker, text in sorted(entries.items())}


def give_up_hopeless(
    register: TroubleRegister, manifest: CheckpointManifest, lease_seconds: float
) -> str | None:
    """End a job that no worker can begin; answers the reason, or None while there is hope."""
    reason = _why_hopeless(register, manifest, lease_seconds)
    return reason if reason and manifest.abandon(reason) else None


def _why_hopeless(
    register: TroubleRegister, manifest: CheckpointManifest, lease_seconds: float
) -> str | None:
    status, troubles = manifest.job_status(), register.all()
    if status is None or status.state is not JobState.RUNNING or status.shards[ShardState.RUNNING]:
        return None
    workers = _who_may_work(register.client, status.kind, lease_seconds)
    # One that has not come up yet may be a good one.
    missing = set(filter(None, status.queues.split(","))) - {entry.queue for entry in workers}
    young = abs(server_time(register.client) - status.announced) < COMES_BACK_LEASES * lease_seconds
    if not workers or (missing and young):
        return None
    names = {entry.name for entry in workers}
    lasting = {name: each for name, each in troubles.items() if name in names and each.is_lasting}
    if len(lasting) < len(names):
        return None
    latest = max(lasting.values(), key=lambda trouble: trouble.seen)
    times = sum(trouble.times for trouble in lasting.values())
    return f"{latest.text} ({count(times, 'time')} on {', '.join(sorted(lasting))})"


def _who_may_work(client: redis.Redis, kind: str, lease_seconds: float) -> list[WorkerEntry]:
    """Also who fell silent just now, for it may be on its way back: one bad worker is to end nothing."""
    recent = live_workers(client, COMES_BACK_LEASES * lease_seconds, with_dead=True)
    return [entry for entry in recent if entry.kind == kind]
