"""The reconciler: brings home shards whose holder died and whose message was lost.

Runs beside the consumer in every worker's parent. All of them watch, one sends lost messages again at a time,
and whatever two of them do at once is harmless: leases are taken away by compare-and-set, and a message
too many is refused by the manifest.
"""

import logging
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import cast

import redis
from celery import Celery

from queue_app.coordination import keys
from queue_app.coordination.events import EventKind, publish
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.messages import announce, ask_for_export, send_shards
from queue_app.coordination.redis_client import TRANSIENT
from queue_app.coordination.routing import live_queues, lively_workers, queued_shards, route, share
from queue_app.coordination.states import JobState, JobStatus, ShardState, ShardStatus
from queue_app.coordination.workers import Owner, live_workers, server_time
from queue_app.job.directory import JobDir
from queue_app.job.output_place import exported
from queue_app.job.spec import Job
from queue_app.worker.forgotten_jobs import ForgottenJobs
from queue_app.worker.leases import LeaseWatch, take_away

log = logging.getLogger(__name__)

ACTING_MILLISECONDS = 5_000
EXPORT_PATIENCE = 20
REBUILT = "the server had forgotten the job; it was rebuilt from its directory"


class Reconciler:
    """One observer. `step` is to be called about once a second."""

    def __init__(
        self,
        client: redis.Redis,
        app: Celery,
        name: str,
        *,
        lease_seconds: float,
        resend_seconds: float,
        forgotten: ForgottenJobs | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.client = client
        self.app = app
        self.name = name
        self.forgotten = forgotten
        self.lease_seconds = lease_seconds
        self.leases = LeaseWatch(lease_seconds, clock)
        self.resend_seconds = resend_seconds
        self.clock = clock
        self._exported: set[str] = set()
        self._export_due: dict[str, float] = {}
        self._next_scan = clock()
        self._actor: tuple[str, float] = ("", clock())

    def step(self) -> None:
        """Look once at every running job; observation starts anew when the server was away."""
        try:
            for manifest, job_dir, _ in self._jobs(JobState.RUNNING):
                self._release_dead_leases(manifest, job_dir)
            if self._has_forgotten() or self.clock() >= self._next_scan:
                self._rebuild_forgotten()
            if self.clock() >= self._next_scan:
                self._next_scan = self.clock() + self.resend_seconds / 2
                for manifest, job_dir, _ in self._jobs(JobState.RUNNING):
                    self._resend_lost_messages(manifest, job_dir)
                for manifest, job_dir, status in self._jobs(JobState.DONE):
                    self._resend_lost_export(manifest.job_id, JobDir(Path(job_dir)), status)
        except TRANSIENT as error:
            self.leases.begin_anew()
            if self.forgotten is not None:
                self.forgotten.fleet.doubt()
            log.warning("reconciler: the server is away: %s", error)

    def _jobs(self, state: JobState) -> Iterable[tuple[CheckpointManifest, str, JobStatus]]:
        for job_id, job_dir in cast("Mapping[str, str]", self.client.hgetall(keys.JOBS)).items():
            manifest = CheckpointManifest(self.client, job_id)
            status = manifest.job_status()
            if status is not None and status.state is state:
                yield manifest, job_dir, status

    # ---- a server that lost its data

    def _has_forgotten(self) -> bool:
        return self.forgotten is not None and self.forgotten.fleet.lost_data()

    def _rebuild_forgotten(self) -> None:
        if self.forgotten is None:
            return
        for job, job_dir in self.forgotten.find(self._job_ids()):
            queues = live_queues(self.client, job, self.lease_seconds)
            if queues and self._may_act():
                self._rebuild(job, job_dir, queues)

    def _rebuild(self, job: Job, job_dir: JobDir, queues: Sequence[str]) -> None:
        """Fill the job's manifest from its directory; have it exported if only that was left."""
        announce(self.client, self.app, job, job_dir, queues, resend_all=True)
        if status := CheckpointManifest(self.client, job.job_id).job_status():
            self._ask_for_export(job.job_id, job_dir, queues[0], status)
        publish(self.client, job.job_id, EventKind.SERVER, REBUILT)
        log.warning("rebuilt from its directory job=%s dir=%s", job.job_id, job_dir.path)

    def _job_ids(self) -> frozenset[str]:
        return frozenset(cast("Sequence[str]", self.client.hkeys(keys.JOBS)))

    # ---- dead leases

    def _release_dead_leases(self, manifest: CheckpointManifest, job_dir: str) -> None:
        """No lock: of all observers exactly one succeeds in taking a lease away, and that one sends."""
        dead = self.leases.dead(manifest)
        released = [status for status, reason in dead if take_away(manifest, status, reason)]
        self._send(manifest, job_dir, released)

    # ---- lost messages

    def _resend_lost_messages(self, manifest: CheckpointManifest, job_dir: str) -> None:
        status = manifest.job_status()
        if status is None or not status.shards[ShardState.PENDING]:
            return
        now = server_time(self.client)
        pending = [
            shard
            for shard in manifest.shard_statuses(range(status.num_shards))
            if shard.state is ShardState.PENDING and self._overdue(shard, now)
        ]
        if pending and self._may_act():
            lost = self._without_message(manifest.job_id, pending)
            self._send(manifest, job_dir, lost)
            self._share(manifest, job_dir, [shard for shard in pending if shard not in lost])

    def _overdue(self, shard: ShardStatus, now: float) -> bool:
        """Times from the future count as long past: the server's clock may have been set back."""
        waits = 0 < shard.not_before - now < self.resend_seconds
        return not waits and abs(now - shard.sent_at) > self.resend_seconds

    def _without_message(self, job_id: str, pending: Sequence[ShardStatus]) -> list[ShardStatus]:
        """Those that no live queue holds a message for."""
        live = {worker.queue for worker in live_workers(self.client, self.lease_seconds)}
        waiting = {queue: queued_shards(self.client, queue) for queue in {s.queue for s in pending} & live}
        return [shard for shard in pending if (job_id, shard.index) not in waiting.get(shard.queue, ())]

    def _resend_lost_export(self, job_id: str, job_dir: JobDir, status: JobStatus) -> None:
        """A job is done with its last shard, but its output is asked for by a message like any other."""
        if job_id in self._exported:
            return
        job = job_dir.load_or_none()
        if job is None or job.job_id != job_id or exported(job, job_dir) is not None:
            self._exported.add(job_id)
            return
        due = self._export_due.setdefault(job_id, self.clock() + self.resend_seconds)
        queues = live_queues(self.client, job, self.lease_seconds)
        if self.clock() >= due and queues and self._may_act():
            # A large output takes its time: ask less and less often.
            self._export_due[job_id] = self.clock() + EXPORT_PATIENCE * self.resend_seconds
            # The one that was asked before may hang: then its message still waits.
            queue = min(queues, key=lambda name: int(self.client.llen(name)))
            if self._ask_for_export(job_id, job_dir, queue, status):
                log.warning("export asked for again job=%s", job_id)

    def _ask_for_export(self, job_id: str, job_dir: JobDir, queue: str, status: JobStatus) -> bool:
        directory, state = str(job_dir.path), status.state
        return ask_for_export(self.app, job_id, directory, queue, state=state, export_by=status.export_by)

    # ---- sharing

    def _share(self, manifest: CheckpointManifest, job_dir: str, waiting: Sequence[ShardStatus]) -> None:
        """Give idle workers what waits for a busy one, or for one that hangs.

        The other message is refused when it is delivered.
        """
        routes = share(waiting, self._idle_queues()) if waiting else {}
        if routes:
            send_shards(self.app, manifest, job_dir, routes)
            log.info("shared job=%s shards=%s", manifest.job_id, routes)

    def _idle_queues(self) -> list[str]:
        """Queues without a message whose live worker holds no shard."""
        owners = [
            Owner.decode(status.owner)
            for manifest, *_ in self._jobs(JobState.RUNNING)
            for status in manifest.shard_statuses(manifest.running())
        ]
        busy = {owner.worker for owner in owners if owner is not None}
        idle = {
            worker.queue
            for worker in lively_workers(self.client, self.lease_seconds)
            if worker.name not in busy
        }
        return sorted(queue for queue in idle if not self.client.llen(queue))

    # ---- sending

    def _send(self, manifest: CheckpointManifest, job_dir: str, shards: Sequence[ShardStatus]) -> None:
        if not shards:
            return
        live = sorted({worker.queue for worker in lively_workers(self.client, self.lease_seconds)})
        routes = route(shards, {queue: int(self.client.llen(queue)) for queue in live})
        if routes:
            send_shards(self.app, manifest, job_dir, routes)
            log.info("sent again job=%s shards=%s", manifest.job_id, routes)

    def _may_act(self) -> bool:
        """True for one observer at a time.

        The server counts the seconds of the lock by a clock that may be set back, so this one counts too.
        """
        mine = f"{self.name} {uuid.uuid4().hex}"
        if self.client.set(keys.RECONCILER, mine, nx=True, px=ACTING_MILLISECONDS):
            return True
        actor = cast("str", self.client.get(keys.RECONCILER) or "")
        if actor != self._actor[0]:
            self._actor = (actor, self.clock())
        elif self.clock() - self._actor[1] > 2 * ACTING_MILLISECONDS / 1000:
            self.client.delete(keys.RECONCILER)
        return actor.startswith(f"{self.name} ")
