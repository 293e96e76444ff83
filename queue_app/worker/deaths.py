"""Ends of a worker's child by a signal, before it gets anything done: what a memory limit does to it.

A child that dies at work puts its batch under suspicion, and comes to an end so. One that dies while it loads
its model leaves no trace: it would be started, and killed, for ever. So would one that the kernel kills at
work for want of memory, which is no fault of its batch.
"""

import signal
from collections.abc import Callable
from pathlib import Path

DEATHS_MOST = 5
"""So many in a row, with no batch ended between them, and the worker gives up."""
EXIT_STATUS = 79
"""Of a worker that gave up so: its supervisor must not simply start it again."""


class ChildDeaths:
    """Counts them. `is_at_work` tells of a pid whether it held a shard, `num_batches` how many have ended,
    `num_oom_kills` how many processes the kernel has killed for want of memory."""

    def __init__(
        self,
        is_at_work: Callable[[int], bool],
        num_batches: Callable[[], float],
        num_oom_kills: Callable[[], int],
    ) -> None:
        self._is_at_work = is_at_work
        self._num_batches = num_batches
        self._num_oom_kills = num_oom_kills
        self._oom_kills_seen = num_oom_kills()
        self._seen = 0.0
        self._in_a_row = 0

    def note(self, pid: int, exit_code: int | None) -> str:
        """A child has ended. Answers why the worker should give up; empty while it should not."""
        if self._num_batches() != self._seen:
            self._seen, self._in_a_row = self._num_batches(), 0
        for_memory = self._num_oom_kills() > self._oom_kills_seen and exit_code == -signal.SIGKILL
        self._oom_kills_seen = self._num_oom_kills()
        if exit_code is None or exit_code >= 0 or (self._is_at_work(pid) and not for_memory):
            return ""
        self._in_a_row += 1
        if self._in_a_row < DEATHS_MOST:
            return ""
        return f"{killed_by(-exit_code)}, {self._in_a_row} times before it got anything done"


def num_oom_kills() -> int:
    """Of all processes of this host, since it started; 0 where the kernel does not tell."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def killed_by(signum: int) -> str:
    """`killed by signal 9 (SIGKILL), probably out of memory`."""
    try:
        name = f"signal {signum} ({signal.Signals(signum).name})"
    except ValueError:
        name = f"signal {signum}"
    # The kernel's killer uses this one; it tells nobody else why.
    return f"killed by {name}" + (", probably out of memory" if signum == signal.SIGKILL else "")
