"""What happened to a job that a person may want to see: a bounded list on the server, newest first.

Most entries are written by manifest.lua, within the transition that they tell of; `publish` writes those of
processes, which are no transitions. An index like all else there: the run card is made without it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import cast

import redis

from queue_app.coordination import keys
from queue_app.coordination.trust import values
from queue_app.coordination.workers import server_time

EVENTS_KEPT = 50
"""As in manifest.lua."""
TEXT_MOST = 2_000
"""Characters."""


class EventKind(StrEnum):
    """What an event tells of."""

    RECOVERED = "recovered"
    """A lease was taken away from a dead holder."""
    RETRIED = "retried"
    """A shard's attempt ended with an error; another one follows."""
    FAILED = "failed"
    """A shard was given up."""
    QUARANTINED = "quarantined"
    """Records were quarantined."""
    DAMAGED = "damaged"
    """A published result was found damaged, and is computed again."""
    TROUBLE = "trouble"
    """A worker cannot begin: what it fails at before it has a shard."""
    WORKER = "worker"
    """A worker died, and was started again or left out."""
    SERVER = "server"
    """The server died, or lost its data."""


@dataclass(frozen=True, slots=True)
class Event:
    """One line of text. `time` is the server's, in seconds."""

    time: float
    kind: EventKind
    text: str

    @classmethod
    def decode(cls, entry: str) -> "Event":
        """Read `<time> <kind> <text>`. Raises Garbage."""
        time, kind, text = (*values.short(entry, "events").split(" ", 2), "", "")[:3]
        return cls(
            values.finite(time, "events"), values.word(EventKind, kind, "events"), " ".join(text.split())
        )


def publish(client: redis.Redis, job_id: str, kind: EventKind, text: str) -> None:
    """Note what a process went through. What falls off the list's end is forgotten."""
    pipe = client.pipeline()
    pipe.lpush(keys.events(job_id), f"{server_time(client):.3f} {kind} {text[:TEXT_MOST]}")
    pipe.ltrim(keys.events(job_id), 0, EVENTS_KEPT - 1)
    with values.read_from(keys.events(job_id)):
        pipe.execute()


def read_events(client: redis.Redis, job_id: str) -> tuple[Event, ...]:
    """The events that are kept, in the order in which they happened; what is none is left out."""
    with values.read_from(keys.events(job_id)):
        entries = cast("Sequence[str]", client.lrange(keys.events(job_id), 0, EVENTS_KEPT - 1))
    return tuple(values.readable(Event.decode, reversed(entries)))
