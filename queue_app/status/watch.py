"""Watching a job until it ends: one that this process runs, or one that runs elsewhere (`status --watch`)."""

import time
from collections.abc import Callable

import redis

from queue_app.coordination.redis_client import TRANSIENT
from queue_app.coordination.states import JobState
from queue_app.coordination.trust.values import Garbage
from queue_app.errors import BrokerUnreachable, JobNotFound
from queue_app.status.allowance import NOTHING, Allowance
from queue_app.status.job_snapshot import JobSnapshot
from queue_app.status.snapshot import snapshot, snapshots
from queue_app.status.view import View

POLL_SECONDS = 1.0
GRACE_SECONDS = 10.0
"""How long a job may be unknown that was known before: its server may be starting again."""


def watch(job: str, broker: str | None, view: View) -> JobSnapshot:
    """Show the job until it has ended; answers its last snapshot.

    The server is looked for anew each time: the one that `embed` starts may come and go, and between two runs
    the job directory answers. One that nobody works on is watched all the same: it may be resumed.

    Raises:
        JobNotFound: nobody knows the job, or not any more.
        BrokerUnreachable: there is no server, and nothing on disk to read instead.
    """
    last_seen: float | None = None
    while True:
        try:
            (now,) = snapshots(job, broker)
            if last_seen is None:
                view.say(f"job {now.job}")
            last_seen = time.monotonic()
            view.update(now)
            if now.ended:
                return now
        except (JobNotFound, BrokerUnreachable, Garbage):
            if last_seen is None or time.monotonic() - last_seen > GRACE_SECONDS:
                raise
        time.sleep(POLL_SECONDS)


def exit_code(last: JobSnapshot, allowed: Allowance = NOTHING) -> int:
    """As of the job's own command: 0, 3 with more records in quarantine than are allowed, 1 when it failed or
    was cancelled."""
    if last.state is not JobState.DONE:
        return 1
    return 0 if allowed.covers(last.quarantined, last.total) else 3


class Lookout:
    """Looks how far a job is, and says it once when the server goes away, and when it is back."""

    def __init__(
        self, client: redis.Redis, job_id: str, lease_seconds: float, say: Callable[[str], None] | None
    ) -> None:
        self._client = client
        self._job_id = job_id
        self._lease_seconds = lease_seconds
        self._say = say
        self._is_away = False

    def look(self) -> JobSnapshot | None:
        """None while the server is away, or does not know the job."""
        try:
            found = snapshot(self._client, self._job_id, lease_seconds=self._lease_seconds)
        except TRANSIENT as error:
            self._note(True, f"the server is away ({error}); workers go on with the shard that they have")
            return None
        except Garbage as fault:  # a worker makes the job known anew
            self._note(True, str(fault))
            return None
        self._note(False, "the server is back")
        return found

    def _note(self, is_away: bool, text: str) -> None:
        if is_away != self._is_away and self._say is not None:
            self._say(text)
        self._is_away = is_away
