"""Threads that a process cannot do without: when one ends by an error, the process does, for all to see.

A worker whose heartbeat has died would hold its shard, and lose it; one whose reconciler has died would look
after nobody. Whoever supervises starts such a process again.
"""

import logging
import os
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)

GAVE_UP_STATUS = 79
"""The exit status of a worker whose child was killed again and again: it is not simply started again."""
UNEXPECTED_STATUS = 80
"""The exit status of a process that was up, and ended by an error that nobody expected: it may be gone when
the process is started again."""


def lasting_thread(name: str, run: Callable[[], None]) -> threading.Thread:
    """A thread that ends with the process, and the process with it, unless it comes to its own end."""

    def run_or_end() -> None:
        try:
            run()
        except BaseException as error:
            end_process(f"thread {name} died: {type(error).__name__}: {error}", error)

    return threading.Thread(target=run_or_end, name=name, daemon=True)


def end_process(why: str, error: BaseException | None = None) -> None:
    """At once: what holds the process together is gone."""
    log.critical("this process ends: %s", why, exc_info=error)
    os._exit(UNEXPECTED_STATUS)
