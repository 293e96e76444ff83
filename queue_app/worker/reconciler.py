"""The reconciler: brings home shards whose holder died, and jobs that the server forgot.

Runs beside the consumer in every worker's parent. Each observes a few leases and no more, however many there
are; whatever two of them do at once is harmless: leases are taken away by compare-and-set, and a message
too many is refused by the manifest.
"""

import logging
import time
import uuid
from collections.abc import Callable, Sequence
from typing import cast

import redis
from celery import Celery

from queue_app.coordination import keys
from queue_app.coordination.dealing import LeaseSeen, Tick, deal_to, deal_to_idle, tick
from queue_app.coordination.events import EventKind, publish
from queue_app.coordination.fleet import job_places
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.messages import announce, ask_for_export
from queue_app.coordination.redis_client import TRANSIENT
from queue_app.coordination.workers import WorkerEntry, live_queues
from queue_app.job.directory import JobDir
from queue_app.job.output_place import exported
from queue_app.job.spec import Job
from queue_app.worker.forgotten_jobs import ForgottenJobs
from queue_app.worker.leases import LeaseWatch, take_away

log = logging.getLogger(__name__)

ACTING_MILLISECONDS = 5_000
EXPORT_PATIENCE = 20
REBUILT = "the server had forgotten the job; it was rebuilt from its directory"


class _KnownJobs:
    """Which jobs the server knows: asked for one at a time, as it may know many."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client

    def __contains__(self, job_id: object) -> bool:
        return bool(self.client.hexists(keys.JOBS, str(job_id)))


class Reconciler:
    """One worker's. `step` is to be called every few seconds, and when the worker has become free."""

    def __init__(
        self,
        client: redis.Redis,
        app: Celery,
        *,
        lease_seconds: float,
        resend_seconds: float,
        forgotten: ForgottenJobs | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.client = client
        self.app = app
        self.forgotten = forgotten
        self.places = job_places(client)
        self.lease_seconds = lease_seconds
        self.leases = LeaseWatch(lease_seconds, clock)
        self.resend_seconds = resend_seconds
        self.clock = clock
        self._export_due: dict[str, float] = {}
        self._next_scan = clock()
        self._actor: tuple[str, float] = ("", clock())

    def step(self, entry: WorkerEntry, *, is_idle: bool) -> Tick | None:
        """Tell that the worker lives, see to its leases and, where it is idle, ask for a shard.

        Answers what the server said; None when it was away, and then observation starts anew.
        """
        try:
            said = tick(self.client, entry)
            self._release_dead_leases(said.leases)
            if self._has_forgotten(said.fleet) or self.clock() >= self._next_scan:
                self._next_scan = self.clock() + self.resend_seconds / 2
                self._rebuild_forgotten(entry.name)
                self._resend_lost_exports(entry)
            if is_idle:
                deal_to(self.client, self.app, entry, is_idle=True)
        except TRANSIENT as error:
            self.leases.begin_anew()
            if self.forgotten is not None:
                self.forgotten.fleet.doubt()
            log.warning("reconciler: the server is away: %s", error)
            return None
        return said

    # ---- dead leases

    def _release_dead_leases(self, leases: Sequence[LeaseSeen]) -> None:
        """No lock: of all observers exactly one succeeds in taking a lease away."""
        taken = {
            seen.job_id for seen, reason in self.leases.dead(leases) if take_away(self.client, seen, reason)
        }
        for kind in {self.client.hget(keys.job(job_id), "kind") for job_id in taken}:
            deal_to_idle(self.client, self.app, str(kind))

    # ---- a server that lost its data

    def _has_forgotten(self, fleet: str) -> bool:
        return self.forgotten is not None and self.forgotten.fleet.lost_data(fleet)

    def _rebuild_forgotten(self, name: str) -> None:
        if self.forgotten is None:
            return
        for job, job_dir in self.forgotten.find(_KnownJobs(self.client)):
            queues = live_queues(self.client, job.options.device_class, self.lease_seconds)
            if queues and self._may_act(name):
                self._rebuild(job, job_dir, queues)

    def _rebuild(self, job: Job, job_dir: JobDir, queues: Sequence[str]) -> None:
        """Fill the job's manifest from its directory; have it exported if only that was left."""
        announce(self.client, self.app, job, job_dir, queues)
        self._export_due[job.job_id] = self.clock()
        publish(self.client, job.job_id, EventKind.SERVER, REBUILT)
        log.warning("rebuilt from its directory job=%s dir=%s", job.job_id, job_dir.path)

    # ---- lost exports

    def _resend_lost_exports(self, entry: WorkerEntry) -> None:
        """A job is done with its last shard, but its output is asked for by a message like any other."""
        waiting = cast("set[str]", self.client.smembers(keys.UNEXPORTED))
        self._export_due = {job_id: due for job_id, due in self._export_due.items() if job_id in waiting}
        for job_id in sorted(waiting):
            self._resend_lost_export(CheckpointManifest(self.client, job_id), entry)

    def _resend_lost_export(self, manifest: CheckpointManifest, entry: WorkerEntry) -> None:
        status, job_id = manifest.job_status(), manifest.job_id
        job_dir = self.places.find_or_none(job_id, status.job_dir) if status else None
        job = job_dir.load_or_none() if job_dir else None
        if status is None or job_dir is None or job is None or job.job_id != job_id:
            return  # this host does not see the job's directory; others may
        if exported(job, job_dir) is not None:
            manifest.note_exported()
            return
        due = self._export_due.setdefault(job_id, self.clock() + self.resend_seconds)
        # This host sees the directory. Where a message waits already the child may hang: another's turn.
        if self.clock() >= due and not self.client.llen(entry.name) and self._may_act(entry.name):
            # A large output takes its time: ask less and less often.
            self._export_due[job_id] = self.clock() + EXPORT_PATIENCE * self.resend_seconds
            if ask_for_export(self.app, job_id, entry.name, state=status.state, export_by=status.export_by):
                log.warning("export asked for again job=%s", job_id)

    def _may_act(self, name: str) -> bool:
        """True for one observer at a time.

        The server counts the seconds of the lock by a clock that may be set back, so this one counts too.
        """
        mine = f"{name} {uuid.uuid4().hex}"
        if self.client.set(keys.RECONCILER, mine, nx=True, px=ACTING_MILLISECONDS):
            return True
        actor = cast("str", self.client.get(keys.RECONCILER) or "")
        if actor != self._actor[0]:
            self._actor = (actor, self.clock())
        elif self.clock() - self._actor[1] > 2 * ACTING_MILLISECONDS / 1000:
            self.client.delete(keys.RECONCILER)
        return actor.startswith(f"{name} ")
