"""What kombu and Celery do that would end a worker or keep it idle for ever, and what is done instead.

Nothing that lies on a queue reaches Celery unless the gate has judged it (message_gate.py). What is dropped
is counted, told now and then, and leaves nothing reserved; a shard whose message it was is dealt again. What
a worker puts back is what it holds in its own memory, never what the server's book says it held. A connection
that breaks at a bad moment can leave the consumer waiting for what never comes.
"""

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from queue import Empty
from typing import Any

import redis
from celery.worker import state
from kombu.exceptions import InconsistencyError
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as kombu_redis

from queue_app.coordination import keys
from queue_app.coordination.dealing import take_book
from queue_app.coordination.redis_client import TRANSIENT, connect
from queue_app.coordination.trust.message_gate import RAW_BYTES_MOST, SENT_AT, MessageGate, Reason
from queue_app.coordination.trust.signing import key_ring
from queue_app.coordination.workers import WorkerEntry
from queue_app.settings import RuntimeConfig
from queue_app.shown import visible
from queue_app.worker.metrics.counters import DROPPED, counters

log = logging.getLogger(__name__)

LOOKED_AWAY_SECONDS = 10.0
WAIT_SECONDS = 2
"""How long the server holds a worker's question for a message; one that comes is answered with at once. A
worker that ends waits for that answer, and a dead connection is noticed so much later."""
REFUSED_SECONDS = 1.0
"""How long a worker waits before it asks again for a queue that is none: a key of another type."""
TOLD_EVERY_SECONDS = 10.0
"""A flood of messages is no flood of lines."""
NOT_THE_MESSAGE = (OSError, InconsistencyError, *TRANSIENT, redis.InvalidResponse, redis.ResponseError)
"""What reading a queue raises of which the message is not the cause."""


class Standstill:
    """Notices that messages wait, and the worker they wait for works on nothing."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = self._looked = clock()
        self._num_dropped = 0.0

    def seconds(self, has_messages: bool, num_dropped: float = 0.0) -> float:
        """For how long it has been so. Who could not look, as the server was away, begins anew; so does who
        has dropped a message meanwhile, for that one was taken.
        """
        now = self._clock()
        is_taking = is_at_work() or num_dropped != self._num_dropped
        if not has_messages or is_taking or now - self._looked > LOOKED_AWAY_SECONDS:
            self._since = now
        self._looked, self._num_dropped = now, num_dropped
        return now - self._since


def is_at_work() -> bool:
    """Whether this worker has a task in hand, or one that it will begin."""
    return bool(state.active_requests or state.reserved_requests)


class Told:
    """Lets one line of a kind through every few seconds, and counts the others."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due: dict[str, float] = {}
        self._untold: dict[str, int] = {}

    def warn(self, kind: str, what: str) -> None:
        now, untold = self._clock(), self._untold.get(kind, 0)
        if now < self._due.get(kind, float("-inf")):
            self._untold[kind] = untold + 1
            return
        self._due[kind], self._untold[kind] = now + TOLD_EVERY_SECONDS, 0
        log.warning("%s%s", what, f" ({untold} more since)" if untold else "")


told = Told()


@cache
def gate() -> MessageGate:
    """The one of this process."""
    return MessageGate(key_ring())


def note_dropped(reason: Reason, queue: str) -> None:
    """Count a message that is dropped, and say so."""
    counters.add(DROPPED[reason])
    told.warn(reason, f"dropped: {reason} queue={queue}")


def guard_queues(conf: Any, worker: str) -> None:
    """Have every connection of this process to a Redis-protocol server made by TolerantTransport; what it
    holds is written into a book of its own: one that all shared could not be restored at a worker's start.
    """
    TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), f"{__name__}:TolerantTransport"))
    conf.broker_transport_options = {**conf.broker_transport_options, **keys.unacked(worker)}


def restore_left_over(worker: WorkerEntry, config: RuntimeConfig) -> None:
    """Put back what an earlier worker of this name held when it was killed, as far as the gate lets it in.

    The server's book of it is read once and is gone: what somebody wrote there does not come back.
    """
    try:
        with connect(config.broker_url) as client:
            for queue, raw in _entries(take_book(client, worker.name, 2 * RAW_BYTES_MOST)):
                is_ours = queue in (worker.name, worker.queue)
                judged = gate().judge(raw, queue) if is_ours else Reason.UNREADABLE
                if isinstance(judged, Reason):
                    note_dropped(judged, worker.name)
                else:
                    client.rpush(queue, json.dumps(judged.rebuilt(queue)))
    except (redis.RedisError, UnicodeDecodeError) as error:  # the reconciler brings home what lay there
        log.warning("left-over messages not looked for: %s", error)


def _entries(book: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The queue and the text of each message in a book, as kombu writes one: message, exchange, queue."""
    for line in book:
        try:
            message, _, queue = json.loads(line)
        except (ValueError, TypeError, RecursionError):
            message, queue = None, ""
        yield str(queue), json.dumps(message)


class OwnMemory(kombu_redis.QoS):
    """What was delivered and not acknowledged. The server's book of it is for the worker's next life alone
    (restore_left_over): in this one it is written and never read, so that nobody else can write in it.
    """

    channel: Any  # what kombu's stubs do not know
    _delivered: Any
    _quick_ack: Any
    _quick_append: Any
    _remove_from_indices: Any

    def append(self, message: Any, delivery_tag: str) -> None:
        try:
            super().append(message, delivery_tag)
        except redis.ResponseError as error:  # a book of another type keeps nobody from work
            told.warn("book", f"what this worker holds is not written down: {visible(str(error))}")
            self._quick_append(delivery_tag, message)

    def ack(self, delivery_tag: str) -> None:
        """The worker is free for the next message, even where the server could not be told."""
        message = self._delivered.get(delivery_tag)
        if message is not None:
            gate().note_done(message.headers["id"], message.headers.get(SENT_AT))
        try:
            self._remove_from_indices(delivery_tag).execute(raise_on_error=False)
        finally:
            self._quick_ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        if not requeue:
            return self.ack(delivery_tag)
        try:
            self.restore_by_tag(delivery_tag)
        finally:
            self._quick_ack(delivery_tag)

    def restore_by_tag(self, tag: str, client: Any = None, leftmost: bool = False) -> None:
        """Put a message back where it came from, as the next one to be taken."""
        message = self._delivered.get(tag)
        with self.channel.conn_or_acquire(client) as client:
            pipe = client.pipeline()
            if message is not None:
                pipe.rpush(message.delivery_info["routing_key"], json.dumps(message._raw))
            self._remove_from_indices(tag, pipe)
            pipe.execute(raise_on_error=False)

    def restore_visible(self, *_: Any, **__: Any) -> None:
        """Not from the book: what is lost the reconciler brings home, within seconds instead of an hour."""


class TolerantChannel(kombu_redis.Channel):
    """Reads queues through the gate."""

    QoS = OwnMemory
    connection_errors: Any  # what kombu's stubs do not know
    _queue_cycle: Any
    _flush_brpop_reauth: Any

    def _brpop_read(self, **options: Any) -> bool:
        """As kombu's own, but nothing is parsed that was not judged."""
        try:
            queue, raw = self._answer(options)
            self._queue_cycle.rotate(queue)
            judged = gate().judge(raw, queue)
            if isinstance(judged, Reason):
                note_dropped(judged, queue)
                raise Empty
            self.connection._deliver(judged.rebuilt(queue), queue)
            return True
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()

    def _answer(self, options: dict[str, Any]) -> tuple[str, bytes]:
        """The queue's name and the text that was taken from it. Raises Empty where there was none."""
        try:
            found = self.client.parse_response(self.client.connection, "BRPOP", **options)
        except self.connection_errors:
            self.client.connection.disconnect()  # or the next one would not connect anew
            raise
        except redis.ResponseError as error:
            self._tell_no_queue(", ".join(sorted(self.active_queues)), error)
            time.sleep(REFUSED_SECONDS)
            raise Empty from None
        if not found:
            raise Empty
        return found[0].decode().rsplit(self.sep, 1)[0], found[1]

    def _size(self, queue: str) -> int:
        """Asked when a queue is made known, and used by nobody."""
        return 0

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        """Kombu's table of who hears what. Messages are sent to a queue by name, so nobody looks it up."""
        try:
            super()._queue_bind(exchange, routing_key, pattern, queue)  # type: ignore[misc]
        except redis.ResponseError as error:
            self._tell_no_queue(f"_kombu.binding.{exchange}", error)

    def _tell_no_queue(self, names: str, error: redis.ResponseError) -> None:
        """Of a key of another type, for as long as it is there. Raises what is wrong with more than a key."""
        if type(error) is not redis.ResponseError:  # no right to read, a server that is a copy, …
            raise error
        told.warn("queue", f"{names}: no queue, delete the key: {visible(str(error))}")


class TolerantTransport(kombu_redis.Transport):
    """Drops what cannot be delivered after all, and keeps nothing of it."""

    Channel = TolerantChannel
    brpop_timeout = WAIT_SECONDS

    def _deliver(self, message: Any, queue: Any) -> None:
        held, reserved = self._held(), set(state.reserved_requests)
        try:
            super()._deliver(message, queue)
        except NOT_THE_MESSAGE:
            raise
        except Exception as error:
            note_dropped(Reason.UNREADABLE, queue)
            log.warning("not delivered queue=%s: %r", queue, error)
            for request in set(state.reserved_requests) - reserved:
                state.task_ready(request)  # or it counts as the one that is being worked on
            for channel, tag in self._held() - held:
                channel.basic_reject(tag, requeue=False)  # or it stays the one message that we may hold

    def _held(self) -> set[tuple[Any, str]]:
        channels: Any = self.channels
        return {(channel, tag) for channel in channels for tag in channel.qos._delivered}
