"""Deliveries whose acknowledgement was lost on the network.

Celery passes over the failed acknowledgement, and kombu, whose worker may hold one message, waits for it
for ever before it takes the next: the worker lives, beats, and never works again.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

from celery.worker import state

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 30.0
"""Longer than a retry sits in the worker's memory, delivered and not yet begun."""


class LostDeliveries:
    """Watches one worker from a thread of its parent."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: dict[str, float] = {}

    def drop(self, consumer: Any) -> list[str]:
        """Have kombu forget what no request has belonged to for long; answers the delivery tags.

        The messages stay in the unacknowledged book, and come back when the worker starts the next time.
        """
        qos: Any = getattr(getattr(getattr(consumer, "task_consumer", None), "channel", None), "qos", None)
        now = self._clock()
        self._since = {tag: self._since.get(tag, now) for tag in _idle_tags(qos)}
        lost = [tag for tag, since in self._since.items() if now - since >= PATIENCE_SECONDS]
        for tag in lost:
            qos._dirty.add(tag)  # how kombu itself takes acknowledgements from other threads
            log.warning("a delivery without a request is dropped tag=%s", tag)
        return lost


def _idle_tags(qos: Any) -> set[str]:
    """What kombu holds as delivered while the worker works on nothing."""
    if qos is None or state.active_requests or state.reserved_requests:
        return set()
    try:
        return set(qos._delivered) - set(qos._dirty)
    except RuntimeError:  # it changed while we looked: so it is not stuck
        return set()
