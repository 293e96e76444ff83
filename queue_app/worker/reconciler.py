"""The reconciler: brings home shards whose holder died, and jobs that the server forgot.

Runs beside the consumer in every worker's parent. Each observes a few leases and no more, however many there
are; whatever two of them do at once is harmless: leases are taken away by compare-and-set, and a message
too many is refused by the manifest.
"""

import logging
import time
import uuid
from collections.abc import Callable, Container, Sequence
from typing import cast

import redis
from celery import Celery

from queue_app.coordination import keys
from queue_app.coordination.dealing import LeaseSeen, Tick, deal_to, deal_to_idle, tick
from queue_app.coordination.events import EventKind, publish
from queue_app.coordination.fleet import job_places
from queue_app.coordination.manifest import CheckpointManifest, job_statuses
from queue_app.coordination.messages import announce, ask_for_export
from queue_app.coordination.redis_client import TRANSIENT, ring_of
from queue_app.coordination.states import JobStatus
from queue_app.coordination.trust.told_once import ToldOnce
from queue_app.coordination.trust.values import JOB_ID, Garbage, read_from
from queue_app.coordination.workers import WorkerEntry, live_queues
from queue_app.job.directory import JobDir
from queue_app.job.output_place import exported
from queue_app.job.spec import Job
from queue_app.worker.forgotten_jobs import ForgottenJobs
from queue_app.worker.leases import LeaseWatch, take_away
from queue_app.worker.metrics.counters import Count, counters
from queue_app.worker.rest import failures_rested_from

log = logging.getLogger(__name__)

ACTING_MILLISECONDS = 5_000
EXPORT_PATIENCE = 20
UNSOUND_MOST = 100
UNEXPORTED_MOST = 1_000
REPLACED = "what the server held of the job was garbage; it was made known anew from its directory"
REBUILT = "the server had forgotten the job; it was rebuilt from its directory"


class _KnownJobs:
    """Which jobs the server knows: asked for one at a time, as it may know many.

    One of which it holds garbage it does not know; `unsound` are those that were met as that.
    """

    def __init__(self, client: redis.Redis, unsound: Container[str] = ()) -> None:
        self.client = client
        self.unsound = unsound

    def __contains__(self, job_id: object) -> bool:
        if job_id in self.unsound:
            return False
        try:
            return CheckpointManifest(self.client, str(job_id)).job_status() is not None
        except Garbage:
            return False


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
        self.leases = LeaseWatch(lease_seconds, clock, ring_of(client))
        self.resend_seconds = resend_seconds
        self.clock = clock
        self._export_due: dict[str, float] = {}
        self._export_failures: dict[str, int] = {}
        """Job id -> how often this worker had failed at its output when it was asked for again."""
        self._next_scan = clock()
        self._actor: tuple[str, float] = ("", clock())
        self._faults = ToldOnce(log, lambda: counters.add(Count.GARBAGE))
        self._unsound: set[str] = set()
        self._num_dropped = 0

    def step(self, entry: WorkerEntry, *, is_idle: bool) -> Tick | None:
        """Tell that the worker lives, see to its leases and, where it is idle, ask for a shard.

        Answers what the server said; None when it was away, and then observation starts anew.
        """
        said: Tick | None = None
        try:
            with self._faults.passed_over():
                said = tick(self.client, entry)
            if said is not None:
                self._see_to(said, entry)
            with self._faults.passed_over():
                if is_idle:
                    deal_to(self.client, self.app, entry, is_idle=True)
        except TRANSIENT as error:
            self.leases.begin_anew()
            if self.forgotten is not None:
                self.forgotten.fleet.doubt()
            log.warning("reconciler: the server is away: %s", error)
            return None
        return said

    def _see_to(self, said: Tick, entry: WorkerEntry) -> None:
        """To all that the server told of. What is garbage there keeps nothing else from being seen to."""
        if said.num_dropped > self._num_dropped:
            self._num_dropped = said.num_dropped
            self._faults.tell(f"{keys.DROPPED}: what is none of ours was dropped, see holdfast doctor")
        is_new = bool(set(said.unsound) - self._unsound)
        self._unsound |= set(said.unsound[:UNSOUND_MOST])
        with self._faults.passed_over():
            self._release_dead_leases(said.leases)
        if self._has_forgotten(said.fleet) or is_new or self.clock() >= self._next_scan:
            self._next_scan = self.clock() + self.resend_seconds / 2
            with self._faults.passed_over():
                self._rebuild_forgotten(entry.name)
            with self._faults.passed_over():
                self._resend_lost_exports(entry)

    # ---- dead leases

    def _release_dead_leases(self, leases: Sequence[LeaseSeen]) -> None:
        """No lock: of all observers exactly one succeeds in taking a lease away."""
        taken: set[str] = set()
        for seen, reason in self.leases.dead(leases):
            with self._faults.passed_over():
                if take_away(self.client, seen, reason):
                    taken.add(seen.job_id)
        found = job_statuses(self.client, taken).values()
        for kind in {status.kind for status in found if isinstance(status, JobStatus)}:
            deal_to_idle(self.client, self.app, kind)

    # ---- a server that lost its data

    def _has_forgotten(self, fleet: str) -> bool:
        return self.forgotten is not None and self.forgotten.fleet.lost_data(fleet)

    def _rebuild_forgotten(self, name: str) -> None:
        if self.forgotten is None:
            return
        for job, job_dir in self.forgotten.find(_KnownJobs(self.client, self._unsound)):
            queues = live_queues(self.client, job.options.device_class, self.lease_seconds)
            if queues and self._may_act(name):
                with self._faults.passed_over():
                    self._rebuild(job, job_dir, queues)
        for job_id in sorted(self._unsound):  # of a directory that this host does not see
            self._unsound.discard(job_id)
            with self._faults.passed_over():
                CheckpointManifest(self.client, job_id).look_again()

    def _rebuild(self, job: Job, job_dir: JobDir, queues: Sequence[str]) -> None:
        """Fill the job's manifest from its directory; have it exported if only that was left."""
        why = REBUILT
        if job.job_id in self._unsound:
            CheckpointManifest(self.client, job.job_id).forget()
            self._unsound.discard(job.job_id)
            why = REPLACED
        announce(self.client, self.app, job, job_dir, queues)
        self._export_due[job.job_id] = self.clock()
        publish(self.client, job.job_id, EventKind.SERVER, why)
        log.warning("%s job=%s dir=%s", why, job.job_id, job_dir.path)

    # ---- lost exports

    def _resend_lost_exports(self, entry: WorkerEntry) -> None:
        """A job is done with its last shard, but its output is asked for by a message like any other."""
        with read_from(keys.UNEXPORTED):
            found = cast("list[str]", self.client.srandmember(keys.UNEXPORTED, UNEXPORTED_MOST))
        waiting = set(filter(JOB_ID.fullmatch, found))
        self._export_due = {job_id: due for job_id, due in self._export_due.items() if job_id in waiting}
        self._export_failures = {
            job_id: times for job_id, times in self._export_failures.items() if job_id in waiting
        }
        for job_id in sorted(waiting):
            with self._faults.passed_over():
                self._resend_lost_export(CheckpointManifest(self.client, job_id), entry)

    def _resend_lost_export(self, manifest: CheckpointManifest, entry: WorkerEntry) -> None:
        status, job_id = manifest.job_status(), manifest.job_id
        job_dir = self.places.find_or_none(job_id, status.job_dir) if status else None
        job = job_dir.load_or_none() if job_dir else None
        if status is None or job_dir is None or job is None or job.job_id != job_id:
            return  # this host does not see the job's directory; others may
        manifest.require_signed(job)
        if exported(job, job_dir) is not None:
            manifest.note_exported()
            return
        due = self._export_due.setdefault(job_id, self.clock() + self.resend_seconds)
        if self._has_rested_from_failing(manifest, entry.name):
            due = self.clock()
        # This host sees the directory. Where a message waits already the child may hang: another's turn.
        if self.clock() >= due and not self.client.llen(entry.name) and self._may_act(entry.name):
            # A large output takes its time: ask less and less often.
            self._export_due[job_id] = self.clock() + EXPORT_PATIENCE * self.resend_seconds
            if ask_for_export(self.app, job_id, entry.name, state=status.state, export_by=status.export_by):
                log.warning("export asked for again job=%s", job_id)

    def _has_rested_from_failing(self, manifest: CheckpointManifest, name: str) -> bool:
        """True once after each failure of this worker at the output, when its pause is over, while there is
        hope. What may pass is so tried again within seconds; without hope it is asked for, but seldom."""
        times = failures_rested_from(self.client, manifest.job_id, name)
        if times is None or times == self._export_failures.get(manifest.job_id):
            return False
        self._export_failures[manifest.job_id] = times
        return True

    def _may_act(self, name: str) -> bool:
        """True for one observer at a time.

        The server counts the seconds of the lock by a clock that may be set back, so this one counts too.
        """
        mine = f"{name} {uuid.uuid4().hex}"
        if self.client.set(keys.RECONCILER, mine, nx=True, px=ACTING_MILLISECONDS):
            return True
        try:
            with read_from(keys.RECONCILER):
                actor = cast("str", self.client.get(keys.RECONCILER) or "")
        except Garbage:
            self.client.unlink(keys.RECONCILER)
            return False
        if actor != self._actor[0]:
            self._actor = (actor, self.clock())
        elif self.clock() - self._actor[1] > 2 * ACTING_MILLISECONDS / 1000:
            self.client.delete(keys.RECONCILER)
        return actor.startswith(f"{name} ")
