"""Reading a queue on which anybody may have put anything: what is no message is dropped with a warning.

Kombu would end the worker over it, or have it connect anew. A message is only a wake-up call: should it
have been that of a shard, the reconciler sends it again.
"""

import logging
from queue import Empty
from typing import Any

import redis
from kombu.exceptions import InconsistencyError
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as kombu_redis

from queue_app.coordination.redis_client import TRANSIENT

log = logging.getLogger(__name__)

NOT_THE_MESSAGE = (OSError, InconsistencyError, *TRANSIENT, redis.InvalidResponse, redis.ResponseError)
"""What reading a queue raises of which the message is not the cause."""


def tolerate_garbage() -> None:
    """Have every connection of this process to a Redis-protocol server made by the transport below."""
    TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), f"{__name__}:TolerantTransport"))


class TolerantChannel(kombu_redis.Channel):
    """Reads a queue on which anybody may have put anything."""

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]
        except (Empty, KeyError, *NOT_THE_MESSAGE):  # a KeyError is kombu's way to say: connect anew
            raise
        except Exception as error:  # no JSON; what comes after that, the transport catches
            _warn_dropped(", ".join(sorted(self.active_queues)), error)
            raise Empty from None


class TolerantTransport(kombu_redis.Transport):
    """Drops what cannot be delivered."""

    Channel = TolerantChannel

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
