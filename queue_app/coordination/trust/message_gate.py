"""Which messages reach Celery, and as what: the raw text of a queue in, a rebuilt message or a reason out.

Whoever may write to the server may put anything on a queue. Five things are read of it: task, arguments, id,
when it was sent, and by whose key. All else that Celery sees is written here, so that no time limit, delay,
callback, stamp or reply of a stranger ever gets there. Pure: it touches neither network nor clock by itself.
"""

import base64
import json
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from queue_app.coordination.trust.signing import KeyRing

EMBED_SHARD = "gpu_tasks.embed_shard"
EXPORT_JOB = "gpu_tasks.export_job"

JOB_ID = re.compile(r"[0-9a-f]{12}-[0-9a-f]{8}")
INDEX_MOST = 10**7


def _is_job_id(value: object) -> bool:
    return isinstance(value, str) and JOB_ID.fullmatch(value) is not None


def _is_index(value: object) -> bool:
    return type(value) is int and 0 <= value <= INDEX_MOST  # True is an int, and no index


ARGUMENTS: Mapping[str, tuple[Callable[[object], bool], ...]] = {
    EMBED_SHARD: (_is_job_id, _is_index),
    EXPORT_JOB: (_is_job_id,),
}
"""What each task takes. There are no others."""

SENT_AT = "sent_at"
"""The header that says when a message was sent, in seconds by the sender's clock."""
SIGNATURE = "signature"
"""The header in which a holder of the fleet's key has signed it."""
SIGNED_AS = "message"

RAW_BYTES_MOST = 64_000
"""A message of ours has some 1,200."""
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
NOTHING_AFTERWARDS: Mapping[str, None] = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
KIND: Mapping[str, str] = {"content-type": "application/json", "content-encoding": "utf-8"}
DAY_SECONDS = 24 * 3600.0
"""A signed message is good for so long. What it would have woken is woken again by the reconciler."""
REMEMBERED_MOST = 100_000


class Reason(StrEnum):
    """Why a message is dropped."""

    TOO_LARGE = "too large"
    UNREADABLE = "no JSON object"
    ENCODING = "not JSON in base64"
    TASK = "no task of ours"
    ARGUMENTS = "no arguments of its task"
    IDENTITY = "no id"
    UNSIGNED = "not signed for this queue"
    STALE = "too old"
    REPLAYED = "done before"


class _Refused(Exception):
    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Message:
    """What is believed of a message."""

    task: str
    arguments: tuple[Any, ...]
    id: str
    tag: str
    """Kombu's own number for the delivery."""
    sent_at: float | None
    signature: str | None

    def rebuilt(self, queue: str) -> dict[str, Any]:
        """As kombu hands it on, with nothing but what Celery needs. It would pass the gate again."""
        body = json.dumps([list(self.arguments), {}, NOTHING_AFTERWARDS]).encode()
        told = {SENT_AT: self.sent_at, SIGNATURE: self.signature}
        return {
            **KIND,
            "body": base64.b64encode(body).decode(),
            "headers": {
                "lang": "py",
                "task": self.task,
                "id": self.id,
                "root_id": self.id,
                "parent_id": None,
                "argsrepr": repr(list(self.arguments)),
                "kwargsrepr": "{}",
                **{name: value for name, value in told.items() if value is not None},
            },
            "properties": {
                "correlation_id": self.id,
                "reply_to": "",
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": queue},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": self.tag,
            },
        }


class MessageGate:
    """One process's. Without keys nothing has to be signed, and no id is remembered."""

    def __init__(
        self,
        keys: KeyRing | None,
        clock: Callable[[], float] = time.time,
        remembered_most: int = REMEMBERED_MOST,
    ) -> None:
        self._keys = keys
        self._clock = clock
        self._done = _Remembered(remembered_most)

    def judge(self, raw: bytes | str, queue: str) -> Message | Reason:
        """What is believed of a text that was taken from `queue`, or why it is dropped. Never raises."""
        try:
            message = _read(raw)
            if self._keys is not None:
                self._check_signed(self._keys, message, queue)
        except _Refused as refused:
            return refused.reason
        return message

    def note_done(self, message_id: str, sent_at: float | None) -> None:
        """It was acknowledged. Before that it may come again: who took it gives it back, or is killed."""
        if self._keys is not None and sent_at is not None:
            self._done.add(message_id, sent_at, self._clock() - DAY_SECONDS)

    def _check_signed(self, keys: KeyRing, message: Message, queue: str) -> None:
        if message.sent_at is None:
            raise _Refused(Reason.UNSIGNED)
        parts = signed_parts(message.task, message.arguments, queue, message.id, message.sent_at)
        if not keys.accepts(message.signature, SIGNED_AS, *parts):
            raise _Refused(Reason.UNSIGNED)
        is_remembered_time = abs(self._clock() - message.sent_at) <= DAY_SECONDS
        if not is_remembered_time or message.sent_at <= self._done.forgotten_until:
            raise _Refused(Reason.STALE)
        if message.id in self._done:
            raise _Refused(Reason.REPLAYED)


def signed_parts(
    task: str, arguments: Sequence[str | int], queue: str, message_id: str, sent_at: float
) -> tuple[str | int, ...]:
    """What a signature covers: which task, of what, for which queue, and that it is this one message."""
    job_id, *index = arguments
    return task, job_id, index[0] if index else "", queue, message_id, repr(sent_at)


class _Remembered:
    """Ids of messages that were done with. Memory is bounded: what had to be forgotten early is not let in
    again, nor what was sent before it."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._sent: dict[str, float] = {}
        self.forgotten_until = float("-inf")

    def __contains__(self, message_id: str) -> bool:
        return message_id in self._sent

    def add(self, message_id: str, sent_at: float, over: float) -> None:
        """What was sent before `over` is refused as too old anyway."""
        self._sent[message_id] = sent_at
        while self._sent:
            oldest, its_time = next(iter(self._sent.items()))
            if its_time >= over and len(self._sent) <= self._most:
                return
            del self._sent[oldest]
            self.forgotten_until = max(self.forgotten_until, its_time)


# ---- reading a text


def _read(raw: bytes | str) -> Message:
    if len(raw) > RAW_BYTES_MOST:
        raise _Refused(Reason.TOO_LARGE)
    told = _object(raw, Reason.UNREADABLE)
    headers, properties = told.get("headers"), told.get("properties")
    if not isinstance(headers, dict) or not isinstance(properties, dict):
        raise _Refused(Reason.UNREADABLE)
    is_plain = properties.get("body_encoding") == "base64" and "compression" not in headers
    if not is_plain or any(told.get(name) != value for name, value in KIND.items()):
        raise _Refused(Reason.ENCODING)
    task, identity, tag = headers.get("task"), headers.get("id"), properties.get("delivery_tag")
    if not isinstance(task, str) or task not in ARGUMENTS:
        raise _Refused(Reason.TASK)
    if not _is_uuid(identity) or not _is_uuid(tag):
        raise _Refused(Reason.IDENTITY)
    signature = headers.get(SIGNATURE)
    return Message(
        task,
        _arguments(told.get("body"), ARGUMENTS[task]),
        str(identity),
        str(tag),
        _finite(headers.get(SENT_AT)),
        signature if isinstance(signature, str) else None,
    )


def _arguments(body: object, patterns: Sequence[Callable[[object], bool]]) -> tuple[Any, ...]:
    """Those of a body in Celery's protocol 2: arguments, keyword arguments, what is to come afterwards."""
    try:
        decoded = base64.b64decode(body, validate=True) if isinstance(body, str) else b""
    except ValueError:
        raise _Refused(Reason.ENCODING) from None
    parts = _json(decoded, Reason.ENCODING)
    if not isinstance(parts, list) or len(parts) != 3 or not isinstance(parts[0], list):
        raise _Refused(Reason.ARGUMENTS)
    arguments, keywords, afterwards = parts
    fits = len(arguments) == len(patterns) and all(
        is_one(value) for is_one, value in zip(patterns, arguments, strict=True)
    )
    if not fits or keywords != {} or afterwards != NOTHING_AFTERWARDS:
        raise _Refused(Reason.ARGUMENTS)
    return tuple(arguments)


def _object(text: bytes | str, otherwise: Reason) -> dict[str, Any]:
    value = _json(text, otherwise)
    if not isinstance(value, dict):
        raise _Refused(otherwise)
    return value


def _json(text: bytes | str, otherwise: Reason) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # of bytes that are no text, too, and of ints that are too long
        raise _Refused(otherwise) from None


def _is_uuid(value: object) -> bool:
    return isinstance(value, str) and UUID.fullmatch(value) is not None


def _finite(value: object) -> float | None:
    """A time in seconds; None for all that is no finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # an int beyond all floats
        return None
