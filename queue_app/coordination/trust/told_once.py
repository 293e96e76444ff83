"""What goes wrong on a server again and again, told once: a line a second would hide all others."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from queue_app.coordination.trust.values import Garbage

TOLD_MOST = 1_000
"""Different faults that are remembered; a server that holds more of them fills no memory, and no log."""


class ToldOnce:
    """Goes on after garbage, and says it the first time. `count` is called each time."""

    def __init__(self, log: logging.Logger, count: Callable[[], None] = lambda: None) -> None:
        self._log = log
        self._count = count
        self._told: set[str] = set()

    @contextmanager
    def passed_over(self) -> Iterator[None]:
        """What is within ends with the garbage that it meets, and nothing else does."""
        try:
            yield
        except Garbage as fault:
            self.tell(str(fault))

    def tell(self, text: str) -> None:
        """Log it, unless it was told before."""
        self._count()
        if text not in self._told and len(self._told) < TOLD_MOST:
            self._told.add(text)
            self._log.warning("%s", text)
