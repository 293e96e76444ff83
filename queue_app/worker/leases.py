"""Leases whose holder is dead: its process is gone, or one observer saw the same beat for too long.

No clock of the server and none of the holder counts here, only how long the observer itself has watched.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.states import ShardState, ShardStatus
from queue_app.coordination.workers import Owner
from queue_app.worker.metrics.counters import Count, counters

log = logging.getLogger(__name__)


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
