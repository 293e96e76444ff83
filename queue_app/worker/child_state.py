"""What a worker's child is doing, in memory that its parent shares: a child that hangs or died cannot tell.

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
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

_STAGE = struct.Struct("<QQ64s")  # process, stage, job id
_WORK = struct.Struct("<QQ")  # the process that computes (0: none), and how many batches were begun
_TICKS = struct.Struct("<Q")  # of a thread that never waits: apart, for it writes beside the other
_WORK_AT = _STAGE.size
_TICKS_AT = _WORK_AT + _WORK.size
_DRAINING_AT = _TICKS_AT + _TICKS.size
_TICK_SECONDS = 0.25


class Stage(IntEnum):
    """Where a child stands."""

    STARTING = 0
    IDLE = 1
    GETTING_READY = 2
    AT_WORK = 3
    TOLD = 4
    """It ends, and has said why."""


@dataclass(frozen=True, slots=True)
class LastStage:
    """Where a child was last seen; `job_id` is empty where no job had to do with it."""

    stage: Stage
    job_id: str = ""


class ChildState:
    """Make it before the fork: the child writes, the parent reads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._memory = mmap.mmap(-1, _DRAINING_AT + 1)
        self._clock = clock
        self._counting = threading.Lock()
        self._num_at_work = 0
        self._work_seen = (0, 0)
        self._ticks_seen = 0
        self._child_seen = 0
        self._since = self._stopped_since = self._looked = clock()

    # ---- the child's side

    def set_stage(self, stage: Stage, job_id: str = "") -> None:
        _STAGE.pack_into(self._memory, 0, os.getpid(), stage, job_id.encode()[:64])

    @contextlib.contextmanager
    def during(self, stage: Stage, job_id: str) -> Iterator[None]:
        """What is done within belongs to the job; afterwards the child is idle."""
        self.set_stage(stage, job_id)
        try:
            yield
        finally:
            self.set_stage(Stage.IDLE)

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        """While a shard is computed, and beside it while another is published or made ready."""
        ended = threading.Event()
        ticker = threading.Thread(target=self._tick_until, args=(ended,), name="ticker", daemon=True)
        with self._counting:
            self._num_at_work += 1
            self.begin_batch()
        ticker.start()
        try:
            yield
        finally:
            ended.set()
            ticker.join()
            with self._counting:
                self._num_at_work -= 1
                if not self._num_at_work:
                    _WORK.pack_into(self._memory, _WORK_AT, 0, self._work()[1])

    def begin_batch(self) -> None:
        """A batch begins, so the one before has ended."""
        _WORK.pack_into(self._memory, _WORK_AT, os.getpid(), self._work()[1] + 1)

    def tick(self) -> None:
        """The process runs."""
        _TICKS.pack_into(self._memory, _TICKS_AT, self._ticks() + 1)

    def _tick_until(self, ended: threading.Event) -> None:
        while not ended.wait(_TICK_SECONDS):
            self.tick()

    def is_draining(self) -> bool:
        """True once its worker was told to stop."""
        return self._memory[_DRAINING_AT] != 0

    # ---- the parent's side

    # It asks about one child by its pid: what its dead predecessor left here says nothing about it.

    def drain(self) -> None:
        """Have the child end its batch, commit and give its shard back."""
        self._memory[_DRAINING_AT] = 1

    def last_stage(self, pid: int) -> LastStage:
        """Where this process was last; one that has written nothing was still starting."""
        writer, stage, job_id = _STAGE.unpack_from(self._memory)
        if writer != pid:
            return LastStage(Stage.STARTING)
        return LastStage(Stage(stage), job_id.rstrip(b"\0").decode(errors="replace"))

    def is_computing(self, pid: int) -> bool:
        """True while the child computes a shard, and when it has died of that."""
        return self._work()[0] == pid

    def stalled_seconds(self, pid: int) -> float:
        """For how long the child has computed without ending a batch."""
        now = self._work()
        if now != self._work_seen or now[0] != pid:
            self._work_seen, self._since = now, self._clock()
        return self._clock() - self._since

    def is_stopped(self, pid: int, patience: float) -> bool:
        """True when the child has not run at all for `patience` seconds while this process has.

        Beside work nothing ticks, and loading a model may hold the interpreter for long: there only a
        signal counts. Who looks seldom was stopped too (with the child, most likely), and begins anew.
        """
        now, ticks = self._clock(), self._ticks()
        looked_away = now - self._looked > patience / 2
        may_run = not self.is_computing(pid) and not _was_stopped(pid)
        if ticks != self._ticks_seen or looked_away or may_run or pid != self._child_seen:
            self._ticks_seen, self._stopped_since = ticks, now
        self._looked, self._child_seen = now, pid
        return now - self._stopped_since >= patience

    def _work(self) -> tuple[int, int]:
        pid, count = _WORK.unpack_from(self._memory, _WORK_AT)
        return pid, count

    def _ticks(self) -> int:
        return int(_TICKS.unpack_from(self._memory, _TICKS_AT)[0])


def _was_stopped(pid: int) -> bool:
    """By a signal: state T of proc_pid_stat(5). False where there is no such file."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] == "T"
