"""Leases: how the holder of a shard keeps one, and how an observer sees that a holder is dead.

A holder never stops its work because the server is away: only an answer that the lease is lost does. An
observer takes a holder for dead when its process is gone, or when it saw the same beat for too long: no clock
of the server and none of the holder counts there, only how long the observer itself has watched.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType

import redis

from queue_app.coordination.dealing import LeaseSeen
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.redis_client import TRANSIENT
from queue_app.coordination.states import JobState, Lease
from queue_app.coordination.trust.signed_entries import is_signed_lease
from queue_app.coordination.trust.signing import KeyRing
from queue_app.coordination.trust.told_once import ToldOnce
from queue_app.coordination.trust.values import Garbage
from queue_app.coordination.worker_figures import Figures
from queue_app.coordination.workers import Owner
from queue_app.host.lasting_threads import lasting_thread
from queue_app.job.spec import Progress
from queue_app.shown import visible
from queue_app.worker.metrics.counters import Count, counters

log = logging.getLogger(__name__)


class Heartbeat:
    """A thread of the holder: beats every `beat_seconds`, and at once when progress is reported.

    `figures` says how fast it goes.
    """

    def __init__(
        self,
        manifest: CheckpointManifest,
        lease: Lease,
        beat_seconds: float,
        figures: Callable[[], Figures] | None = None,
    ) -> None:
        self.manifest = manifest
        self.lease = lease
        self.beat_seconds = beat_seconds
        self.figures = figures
        # Not zero: what the store holds is only known once it was opened, and is no progress then.
        self.progress: Progress | None = None
        self.job_state = JobState.RUNNING
        self.lost = threading.Event()
        self._wake = threading.Event()
        self._ended = threading.Event()
        self._faults = ToldOnce(log, lambda: counters.add(Count.GARBAGE))
        self._thread = lasting_thread("heartbeat", self._run)

    def report(self, progress: Progress) -> None:
        """Note what is committed now; sent with the next beat, which is made at once."""
        self.progress = progress
        self._wake.set()

    def should_stop(self) -> bool:
        """True when the shard is no longer ours to compute, or the job was paused, cancelled or given up."""
        return self.lost.is_set() or self.job_state is not JobState.RUNNING

    def _run(self) -> None:
        while not self._ended.is_set():
            self._beat()
            self._wake.wait(self.beat_seconds)
            self._wake.clear()

    def _beat(self) -> None:
        try:
            figures = self.figures() if self.figures else None
            state = self.manifest.beat(self.lease, self.progress, figures)
        except TRANSIENT as error:
            log.warning("no heartbeat %s: %s", self.lease.label, error)
            return
        except Garbage as fault:  # whoever makes the job known anew ends this lease
            self._faults.tell(f"no heartbeat {self.lease.label}: {fault}")
            return
        if state is None:
            log.warning("lease lost %s", self.lease.label)
            self.lost.set()
            self._ended.set()
        else:
            self.job_state = state

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._wake.set()
        self._thread.join()


def why_gone(seen: LeaseSeen) -> str | None:
    """Says so when the holder ran on this very host and is no more: then its lease need not run out."""
    owner = Owner.decode(seen.owner)
    if owner is None or not owner.is_provably_dead():
        return None
    return f"its process {owner.process.pid} is gone"


def take_away(client: redis.Redis, seen: LeaseSeen, reason: str) -> bool:
    """End a lease that was seen to be dead; False when it moved meanwhile, or another was quicker."""
    taken = CheckpointManifest(client, seen.job_id).expire(seen.index, seen.token, seen.beat, reason)
    if taken:
        counters.add(Count.LEASES_EXPIRED)
        log.warning(
            "lease taken away job=%s shard=%d token=%d owner=%s: %s",
            seen.job_id, seen.index, seen.token, visible(seen.owner), reason,
        )  # fmt: skip
    return taken


NOBODYS = "no holder of this fleet has signed the lease"
UNSIGNED = -1
"""The beat of a lease that nobody has signed, whatever the server says."""


@dataclass(frozen=True, slots=True)
class _Observation:
    token: int
    beat: int
    since: float


class LeaseWatch:
    """What one observer has seen of the leases that are its to observe, by its own clock."""

    def __init__(
        self,
        lease_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        ring: KeyRing | None = None,
    ) -> None:
        """`ring`: the fleet's keys, without which nobody signs."""
        self.lease_seconds = lease_seconds
        self.clock = clock
        self._ring = ring
        self._unsigned = ToldOnce(log, lambda: counters.add(Count.UNSIGNED))
        self._observed: dict[tuple[str, int], _Observation] = {}

    def begin_anew(self) -> None:
        """Forget what was seen: while the server is away, nobody's beat can rise."""
        self._observed.clear()

    def dead(self, leases: Sequence[LeaseSeen]) -> list[tuple[LeaseSeen, str]]:
        """Those of all observed leases whose holder is dead, each with how one knows."""
        now = {(seen.job_id, seen.index) for seen in leases}
        self._observed = {key: value for key, value in self._observed.items() if key in now}
        return [(seen, reason) for seen in leases if (reason := self._why_dead(seen))]

    def _why_dead(self, seen: LeaseSeen) -> str | None:
        if gone := why_gone(seen):
            return gone
        key, is_signed = (seen.job_id, seen.index), self._is_signed(seen)
        # Nobody's beats count for nothing: what no holder has signed is over when its time is.
        beat = seen.beat if is_signed else UNSIGNED
        before = self._observed.get(key)
        if before is None or (before.token, before.beat) != (seen.token, beat):
            self._observed[key] = _Observation(seen.token, beat, self.clock())
            return None
        silent = self.clock() - before.since
        if silent < self.lease_seconds:
            return None
        if is_signed:
            return f"no beat for {silent:.0f} s"
        self._unsigned.tell(f"job={seen.job_id} shard={seen.index}: {NOBODYS}")
        return f"{NOBODYS} within {silent:.0f} s"

    def _is_signed(self, seen: LeaseSeen) -> bool:
        return is_signed_lease(self._ring, seen.job_id, seen.index, seen.owner, seen.token, seen.signature)
