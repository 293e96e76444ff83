"""Workers that live, beat, and never work again, after the network failed them.

Celery passes over an acknowledgement that was lost, and kombu, whose worker may hold one message, waits
for it for ever before it takes the next. And a connection that breaks at a bad moment can leave the
consumer waiting for what never comes.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

from celery.worker import state

log = logging.getLogger(__name__)

LOOKED_AWAY_SECONDS = 10.0


class LostDeliveries:
    """Watches one worker from a thread of its parent.

    `patience` (seconds) is to be longer than a retry sits in the worker's memory, delivered and not begun.
    """

    def __init__(self, patience: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.patience = patience
        self._clock = clock
        self._since: dict[str, float] = {}

    def drop(self, consumer: Any) -> list[str]:
        """Have kombu forget what no request has belonged to for long; answers the delivery tags.

        The messages stay in the unacknowledged book, and come back when the worker starts the next time.
        """
        qos: Any = getattr(getattr(getattr(consumer, "task_consumer", None), "channel", None), "qos", None)
        now = self._clock()
        self._since = {tag: self._since.get(tag, now) for tag in _idle_tags(qos)}
        lost = [tag for tag, since in self._since.items() if now - since >= self.patience]
        for tag in lost:
            qos._dirty.add(tag)  # how kombu itself takes acknowledgements from other threads
            log.warning("a delivery without a request is dropped tag=%s", tag)
        return lost


class Standstill:
    """Notices that messages wait, and the worker they wait for works on nothing."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = self._looked = clock()

    def seconds(self, num_waiting: int) -> float:
        """For how long it has been so. Who could not look, as the server was away, begins anew."""
        now = self._clock()
        if not num_waiting or _is_at_work() or now - self._looked > LOOKED_AWAY_SECONDS:
            self._since = now
        self._looked = now
        return now - self._since


def _is_at_work() -> bool:
    return bool(state.active_requests or state.reserved_requests)


def _idle_tags(qos: Any) -> set[str]:
    """What kombu holds as delivered while the worker works on nothing."""
    if qos is None or _is_at_work():
        return set()
    try:
        return set(qos._delivered) - set(qos._dirty)
    except RuntimeError:  # it changed while we looked: so it is not stuck
        return set()
