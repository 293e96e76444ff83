"""`holdfast status --watch`: a job that runs elsewhere, shown until it ends."""

import time

from queue_app.errors import BrokerUnreachable, JobNotFound
from queue_app.lookup import snapshots
from queue_app.monitor import Snapshot
from queue_app.states import JobState
from queue_app.view import View

POLL_SECONDS = 1.0
GRACE_SECONDS = 10.0
"""How long a job may be unknown that was known before: its server may be starting again."""


def watch(job: str, broker: str | None, view: View) -> Snapshot:
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
            last_seen = time.monotonic()
            view.update(now)
            if now.ended:
                return now
        except (JobNotFound, BrokerUnreachable):
            if last_seen is None or time.monotonic() - last_seen > GRACE_SECONDS:
                raise
        time.sleep(POLL_SECONDS)


def exit_code(last: Snapshot) -> int:
    """As of the job's own command: 0, 3 with records in quarantine, 1 when it failed or was cancelled."""
    if last.state is not JobState.DONE:
        return 1
    return 3 if last.quarantined else 0
