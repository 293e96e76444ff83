"""When a worker ends by itself: it was asked to drain, or there has been nothing to do for long.

It goes as after SIGTERM: its batch is ended and committed, its shard given back, its exit status is 0, and
whoever supervises it leaves it ended.
"""

import logging
import os
import signal
import time
from collections.abc import Callable

import redis

from queue_app.coordination.dealing import Tick, has_work
from queue_app.coordination.workers import WorkerEntry
from queue_app.worker.kombu_repairs import is_at_work

log = logging.getLogger(__name__)

LOOKS = 4
"""So often within the time to wait is asked whether anything waits: it costs the server more than a beat."""


class OwnEnd:
    """Of one worker, looked at from a thread of its parent."""

    def __init__(
        self,
        idle_seconds: float | None,
        end: Callable[[], None] = lambda: os.kill(os.getpid(), signal.SIGTERM),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.idle_seconds = idle_seconds
        self._end = end
        self._clock = clock
        self._idle_since = clock()
        self._next_look = 0.0
        self._has_ended = False

    def look(self, client: redis.Redis, entry: WorkerEntry, said: Tick | None) -> None:
        """Begin the end when it is time. `said` is what the server answered just now; None: nothing."""
        if self._has_ended:
            return
        if said is None:
            self._idle_since = self._clock()  # there may have been work that nobody could tell of
        elif said.is_asked_to_leave:
            self._leave("it was asked to drain")
        elif self.idle_seconds is not None and self._was_idle(client, entry, said, self.idle_seconds):
            self._leave(f"there was nothing to do for {self.idle_seconds:g} s")

    def _was_idle(self, client: redis.Redis, entry: WorkerEntry, said: Tick, idle_seconds: float) -> bool:
        """True when every look of the last `idle_seconds` found nothing, by our own clock."""
        now = self._clock()
        # A child that still starts, or was lost, has not been there for work to be given to.
        if said.has_messages or is_at_work() or not entry.child_pid:
            self._idle_since = now
        elif now >= self._next_look:
            if has_work(client, entry.kind):
                self._idle_since = now
            self._next_look = now + idle_seconds / LOOKS
            return now - self._idle_since >= idle_seconds
        return False

    def _leave(self, why: str) -> None:
        log.warning("this worker ends: %s", why)
        self._has_ended = True
        self._end()
