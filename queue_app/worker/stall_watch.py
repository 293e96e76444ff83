"""The pulse of a worker's child, in memory that its parent shares: does it run, does it end batches?

A child that hangs in a kernel or a driver still beats its lease, from a thread of its own; only its work
stands still. One that was stopped, or whose threads all wait for one that holds the interpreter, beats
nothing: its lease goes to another, so it has to go too. One that was stopped between two shards has none,
but may have been handed the next.
"""

import contextlib
import mmap
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_WORK = struct.Struct("<QQ")  # the process at work (0: none), and how many batches were begun
_TICKS = struct.Struct("<Q")  # of a thread that never waits: apart, for it writes beside the other
_TICK_SECONDS = 0.25


class Pulse:
    """Make it before the fork; the child beats, the parent watches."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._memory = mmap.mmap(-1, _WORK.size + _TICKS.size)
        self._clock = clock
        self._seen = (0, 0)
        self._since = clock()
        self._ticks_seen = 0
        self._stopped_since = clock()
        self._looked = clock()
        self._child_seen = 0

    # ---- the child's side

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """While a shard is computed."""
        ended = threading.Event()
        ticker = threading.Thread(target=self._tick_until, args=(ended,), name="pulse", daemon=True)
        self.beat()
        ticker.start()
        try:
            yield
        finally:
            ended.set()
            ticker.join()
            self.rest()

    def beat(self) -> None:
        """A batch begins, so the one before has ended."""
        _, count = self._work()
        _WORK.pack_into(self._memory, 0, os.getpid(), count + 1)

    def rest(self) -> None:
        _, count = self._work()
        _WORK.pack_into(self._memory, 0, 0, count)

    def tick(self) -> None:
        """The process runs."""
        _TICKS.pack_into(self._memory, _WORK.size, self._ticks() + 1)

    def _tick_until(self, ended: threading.Event) -> None:
        while not ended.wait(_TICK_SECONDS):
            self.tick()

    # ---- the parent's side

    # Both ask about one child by its pid: what its dead predecessor left here says nothing about it.

    def is_at_work(self, child_pid: int) -> bool:
        """True while the child computes a shard, and when it has died of that."""
        return self._work()[0] == child_pid

    def stalled_seconds(self, child_pid: int) -> float:
        """For how long the child has been at work without ending a batch."""
        now = self._work()
        if now != self._seen or now[0] != child_pid:
            self._seen, self._since = now, self._clock()
        return self._clock() - self._since

    def is_stopped(self, child_pid: int, patience: float) -> bool:
        """True when the child has not run at all for `patience` seconds while this process has.

        Beside work nothing ticks, and loading a model may hold the interpreter for long: there only a
        signal counts. Who looks seldom was stopped too (with the child, most likely), and begins anew.
        """
        now, ticks = self._clock(), self._ticks()
        looked_away = now - self._looked > patience / 2
        may_run = self._work()[0] != child_pid and not _was_stopped(child_pid)
        is_other = child_pid != self._child_seen
        if ticks != self._ticks_seen or looked_away or may_run or is_other:
            self._ticks_seen, self._stopped_since = ticks, now
        self._looked, self._child_seen = now, child_pid
        return now - self._stopped_since >= patience

    def _work(self) -> tuple[int, int]:
        pid, count = _WORK.unpack_from(self._memory, 0)
        return pid, count

    def _ticks(self) -> int:
        return int(_TICKS.unpack_from(self._memory, _WORK.size)[0])


def _was_stopped(pid: int) -> bool:
    """By a signal: state T of proc_pid_stat(5). False where there is no such file."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] == "T"
