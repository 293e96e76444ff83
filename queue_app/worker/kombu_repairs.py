"""What kombu and Celery do that would end a worker or keep it idle for ever, and what is done instead.

Celery passes over an acknowledgement that was lost, and kombu, whose worker may hold one message, waits
for it for ever before it takes the next. A connection that breaks at a bad moment can leave the consumer
waiting for what never comes. And over what is no message kombu would end the worker, or connect anew: it is
dropped with a warning, and should it have been a shard's, the reconciler sends it again.
"""

import logging
import time
from collections.abc import Callable
from queue import Empty
from typing import Any

import redis
from celery.worker import state
from kombu.exceptions import InconsistencyError
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as kombu_redis

from queue_app.coordination.redis_client import TRANSIENT

log = logging.getLogger(__name__)

LOOKED_AWAY_SECONDS = 10.0
WAIT_SECONDS = 2
"""How long the server holds a worker's question for a message; one that comes is answered with at once. A
worker that ends waits for that answer, and a dead connection is noticed so much later."""
NOT_THE_MESSAGE = (OSError, InconsistencyError, *TRANSIENT, redis.InvalidResponse, redis.ResponseError)
"""What reading a queue raises of which the message is not the cause."""


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

    def seconds(self, has_messages: bool) -> float:
        """For how long it has been so. Who could not look, as the server was away, begins anew."""
        now = self._clock()
        if not has_messages or is_at_work() or now - self._looked > LOOKED_AWAY_SECONDS:
            self._since = now
        self._looked = now
        return now - self._since


def is_at_work() -> bool:
    """Whether this worker has a task in hand, or one that it will begin."""
    return bool(state.active_requests or state.reserved_requests)


def _idle_tags(qos: Any) -> set[str]:
    """What kombu holds as delivered while the worker works on nothing."""
    if qos is None or is_at_work():
        return set()
    try:
        return set(qos._delivered) - set(qos._dirty)
    except RuntimeError:  # it changed while we looked: so it is not stuck
        return set()


def tolerate_garbage() -> None:
    """Have every connection of this process to a Redis-protocol server made by TolerantTransport."""
    TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), f"{__name__}:TolerantTransport"))


class TolerantChannel(kombu_redis.Channel):
    """Drops what is no text of a message."""

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]
        except (Empty, KeyError, *NOT_THE_MESSAGE):  # a KeyError is kombu's way to say: connect anew
            raise
        except Exception as error:  # no JSON; what comes after that, the transport catches
            _warn_dropped(", ".join(sorted(self.active_queues)), error)
            raise Empty from None


class TolerantTransport(kombu_redis.Transport):
    """Drops what cannot be delivered as a message."""

    Channel = TolerantChannel
    brpop_timeout = WAIT_SECONDS

    def _deliver(self, message: Any, queue: Any) -> None:
        held = self._held()
        try:
            super()._deliver(message, queue)
        except NOT_THE_MESSAGE:
            raise
        except Exception as error:
            _warn_dropped(queue, error)
            for channel, tag in self._held() - held:
                channel.basic_reject(tag, requeue=False)  # or it stays the one message that we may hold

    def _held(self) -> set[tuple[Any, str]]:
        channels: Any = self.channels
        return {(channel, tag) for channel in channels for tag in channel.qos._delivered}


def _warn_dropped(queue: str, error: Exception) -> None:
    log.warning("dropped: no message queue=%s: %r", queue, error)
