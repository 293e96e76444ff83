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

from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.redis_client import TRANSIENT
from queue_app.coordination.states import JobState, Lease, ShardState, ShardStatus
from queue_app.coordination.worker_figures import Figures
from queue_app.coordination.workers import Owner
from queue_app.job.spec import Progress
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
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def report(self, progress: Progress) -> None:
        """Note what is committed now; sent with the next beat, which is made at once."""
        self.progress = progress
        self._wake.set()

    def should_stop(self) -> bool:
        """True when the shard is no longer ours to compute, or the job was paused or cancelled."""
        return self.lost.is_set() or self.job_state in (JobState.PAUSED, JobState.CANCELLED)

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


def why_gone(status: ShardStatus) -> str | None:
    """Says so when the holder ran on this very host and is no more: then its lease need not run out."""
    owner = Owner.decode(status.owner)
    if owner is None or not owner.is_provably_dead():
        return None
    return f"its process {owner.process.pid} is gone"


def take_away(manifest: CheckpointManifest, status: ShardStatus, reason: str) -> bool:
    """End a lease that was seen to be dead; False when it moved meanwhile, or another was quicker."""
    taken = manifest.expire(status, reason)
    if taken:
        counters.add(Count.LEASES_EXPIRED)
        log.warning(
            "lease taken away job=%s shard=%d token=%d owner=%s: %s",
            manifest.job_id, status.index, status.token, status.owner, reason,
        )  # fmt: skip
    return taken


@dataclass(frozen=True, slots=True)
class _Observation:
    token: int
    beat: int
    since: float


class LeaseWatch:
    """What one observer has seen of every lease, by its own clock."""

    def __init__(self, lease_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.lease_seconds = lease_seconds
        self.clock = clock
        self._observed: dict[tuple[str, int], _Observation] = {}

    def begin_anew(self) -> None:
        """Forget what was seen: while the server is away, nobody's beat can rise."""
        self._observed.clear()

    def dead(self, manifest: CheckpointManifest) -> list[tuple[ShardStatus, str]]:
        """The running shards of a job whose holder is dead, each with how one knows."""
        running = manifest.running()
        self._forget_ended(manifest.job_id, running)
        return [
            (status, reason)
            for status in manifest.shard_statuses(running)
            if status.state is ShardState.RUNNING and (reason := self._why_dead(manifest.job_id, status))
        ]

    def _why_dead(self, job_id: str, status: ShardStatus) -> str | None:
        if gone := why_gone(status):
            return gone
        seen = self._observed.get((job_id, status.index))
        if seen is None or (seen.token, seen.beat) != (status.token, status.beat):
            self._observed[job_id, status.index] = _Observation(status.token, status.beat, self.clock())
            return None
        silent = self.clock() - seen.since
        return f"no beat for {silent:.0f} s" if silent >= self.lease_seconds else None

    def _forget_ended(self, job_id: str, running: Sequence[int]) -> None:
        for key in [key for key in self._observed if key[0] == job_id and key[1] not in running]:
            del self._observed[key]
