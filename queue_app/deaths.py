"""Ends of a worker's child by a signal, before it gets anything done: what a memory limit does to it.

A child that dies at work puts its batch under suspicion, and comes to an end so. One that dies while it loads
its model leaves no trace: it would be started, and killed, for ever.
"""

import signal
from collections.abc import Callable

DEATHS_MOST = 5
"""So many in a row, with no batch ended between them, and the worker gives up."""
EXIT_STATUS = 79
"""Of a worker that gave up so: its supervisor must not simply start it again."""


class ChildDeaths:
    """Counts them. `is_at_work` tells of a pid whether it held a shard, `num_batches` how many have ended."""

    def __init__(self, is_at_work: Callable[[int], bool], num_batches: Callable[[], float]) -> None:
        self._is_at_work = is_at_work
        self._num_batches = num_batches
        self._seen = 0.0
        self._in_a_row = 0

    def note(self, pid: int, exit_code: int | None) -> str:
        """A child has ended. Answers why the worker should give up; empty while it should not."""
        if self._num_batches() != self._seen:
            self._seen, self._in_a_row = self._num_batches(), 0
        if exit_code is None or exit_code >= 0 or self._is_at_work(pid):
            return ""
        self._in_a_row += 1
        if self._in_a_row < DEATHS_MOST:
            return ""
        return f"{killed_by(-exit_code)}, {self._in_a_row} times before it got anything done"


def killed_by(signum: int) -> str:
    """`killed by signal 9 (SIGKILL), probably out of memory`."""
    try:
        name = f"signal {signum} ({signal.Signals(signum).name})"
    except ValueError:
        name = f"signal {signum}"
    # The kernel's killer uses this one; it tells nobody else why.
    return f"killed by {name}" + (", probably out of memory" if signum == signal.SIGKILL else "")
