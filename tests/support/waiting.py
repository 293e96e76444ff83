"""Waiting for something to become true, instead of sleeping for luck."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")


def wait_for(condition: Callable[[], Value], what: str, *, seconds: float = 60) -> Value:
    """Ask again and again until `condition` answers something true; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s in vain for {what}")
        time.sleep(0.02)
    return value


def run_aside(action: Callable[[], object], *, seconds: float = 60.0) -> None:
    """Run in a thread of its own, to its end. Raises what it raises."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            action()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(timeout=seconds)
    assert not thread.is_alive(), "it does not end"
    if failures:
        raise failures[0]
