"""The pulse of a worker's child, in memory that its parent shares: does it still end batches?

A child that hangs in a kernel or a driver still beats its lease, from a thread of its own; only its work
stands still.
"""

import contextlib
import mmap
import struct
import time
from collections.abc import Callable, Iterator

_LAYOUT = struct.Struct("<?xxxxxxxQ")  # at work, and how many batches were begun


class Pulse:
    """Make it before the fork; the child beats, the parent watches."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._memory = mmap.mmap(-1, _LAYOUT.size)
        self._clock = clock
        self._seen: tuple[bool, int] = (False, 0)
        self._since = clock()

    # ---- the child's side

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """While a shard is computed."""
        self.beat()
        try:
            yield
        finally:
            self.rest()

    def beat(self) -> None:
        """A batch begins, so the one before has ended."""
        _, count = self._read()
        self._memory[:] = _LAYOUT.pack(True, count + 1)

    def rest(self) -> None:
        _, count = self._read()
        self._memory[:] = _LAYOUT.pack(False, count)

    # ---- the parent's side

    def stalled_seconds(self) -> float:
        """For how long the child has been at work without ending a batch."""
        now = self._read()
        if now != self._seen or not now[0]:
            self._seen, self._since = now, self._clock()
        return self._clock() - self._since

    def _read(self) -> tuple[bool, int]:
        at_work, count = _LAYOUT.unpack(self._memory[:])
        return at_work, count
