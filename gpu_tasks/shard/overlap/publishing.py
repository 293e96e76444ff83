"""The shard that was computed last, published on a thread of its own while the next one computes.

Its message is acknowledged by then: it was a wake-up call, and whoever finds the shard's lease without a
holder finds every batch that was committed, and how far publishing came.
"""

import logging
import threading
from collections.abc import Callable

from queue_app.coordination.states import Lease

log = logging.getLogger(__name__)


class Publishing:
    """One at a time, of this process."""

    def __init__(self) -> None:
        self._latest: tuple[Lease, threading.Thread] | None = None

    def begin(self, lease: Lease, end: Callable[[], object]) -> None:
        """Have the attempt under this lease ended beside what comes next; waits for the one before."""
        self.wait()
        thread = threading.Thread(target=_end, args=(lease, end), name="publishing", daemon=True)
        self._latest = lease, thread
        thread.start()

    def latest(self) -> threading.Thread | None:
        return self._latest[1] if self._latest else None

    def wait(self) -> None:
        """Until nothing is published any more."""
        if (thread := self.latest()) is not None:
            thread.join()

    def wait_for(self, job_id: str, index: int) -> None:
        """Until this shard, at least, is not published any more."""
        if self._latest is not None:
            shard = self._latest[0].shard
            if (shard.job_id, shard.index) == (job_id, index):
                self.wait()


def _end(lease: Lease, end: Callable[[], object]) -> None:
    try:
        end()
    except Exception as error:  # the job's own fault, which it was told, or the server is away for long
        log.error("not published %s", lease.label, exc_info=error)
