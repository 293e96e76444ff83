"""Dealing: which worker gets which shard next, and the one message that tells it.

A shard waits in the manifest until a worker is free for it, so there is no message that could grow old. Each
worker has a queue of its own, named like the worker, beside the public one of its device.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import cast

import redis
from celery import Celery

from queue_app.celery_app import EMBED_SHARD
from queue_app.coordination import keys
from queue_app.coordination.redis_client import ring_of
from queue_app.coordination.script import Script
from queue_app.coordination.states import JobState
from queue_app.coordination.trust import values
from queue_app.coordination.trust.signed_entries import is_drain
from queue_app.coordination.workers import WorkerEntry

DEALT_AT_A_TIME = 100
"""Idle workers in one call: a few milliseconds of the server's."""


@dataclass(frozen=True, slots=True)
class Dealt:
    """A shard that is about to be sent to a queue."""

    queue: str
    job_id: str
    index: int

    @classmethod
    def read(cls, answer: list[str]) -> "Iterator[Dealt]":
        """As `deal` of dealing.lua says it: three strings each."""
        for at in range(0, len(answer), 3):
            queue, job_id, index = answer[at : at + 3]
            yield cls(queue, job_id, values.whole(index, keys.dealt(job_id), values.INDEX_MOST))


@dataclass(frozen=True, slots=True)
class LeaseSeen:
    """A lease as one observer sees it."""

    job_id: str
    index: int
    beat: int
    token: int
    owner: str
    signature: str = ""
    """The holder's, where the fleet has a key (signed_entries.py)."""

    @classmethod
    def read(cls, told: Sequence[str]) -> "LeaseSeen":
        """As `tick` of dealing.lua says it: six strings. Raises Garbage."""
        job_id, index, beat, token, owner, signature = told
        where = f"{keys.held(job_id)} {index}"
        return cls(
            values.job_id(job_id, keys.LEASES),
            values.whole(index, where, values.INDEX_MOST),
            values.whole(beat, where),
            values.token(token, where),
            values.short(owner, where),
            signature,
        )


@dataclass(frozen=True, slots=True)
class Tick:
    """What a worker's parent has to know every few seconds, told when it says that the worker lives."""

    is_asked_to_leave: bool
    has_messages: bool
    """In its own queue or in that of its device."""
    fleet: str
    """What the server holds as the fleet's id (fleet.py); empty where it has none."""
    unsound: tuple[str, ...]
    """Some of the jobs of which the server holds garbage: they are to be made known anew."""
    num_dropped: int
    """Odd members of what all share that were dropped so far."""
    leases: tuple[LeaseSeen, ...]
    """Those that it is to observe, however many there are in all."""


def tick(client: redis.Redis, entry: WorkerEntry) -> Tick:
    """Tell that the worker lives. Three live workers observe each lease, and those of the same host."""
    told = json.dumps(asdict(entry))
    drain, num_queues, fleet, unsound, dropped, *found = Script(client)(
        "tick", entry.name, entry.kind, entry.host_key, told, entry.queue
    )
    six = [found[at : at + 6] for at in range(0, len(found), 6)]
    leases = tuple(values.readable(LeaseSeen.read, six))
    is_asked = is_drain(ring_of(client), entry.name, entry.owner, drain)
    return Tick(is_asked, int(num_queues) > 0, fleet, tuple(unsound.split()), int(dropped), leases)


def leave(client: redis.Redis, name: str) -> None:
    """The worker has ended: what was dealt to it goes to others."""
    with suppress(values.Garbage):  # what it leaves behind others find
        Script(client)("leave", name)


def take_book(client: redis.Redis, worker: str, bytes_most: int) -> list[str]:
    """What the server had in its book of messages that a worker of this name held; the book is gone then.

    Of a book that no worker has written, as it is too large, nothing.
    """
    return Script(client)("take_book", worker, bytes_most)


def deal_to(client: redis.Redis, app: Celery, entry: WorkerEntry, *, is_idle: bool = False) -> Dealt | None:
    """Send a worker its next shard, if there is one for it; one that is idle waits for it otherwise."""
    operation = "ask" if is_idle else "deal"
    dealt = list(Dealt.read(Script(client)(operation, entry.name, entry.kind, entry.host_key)))
    _send(app, dealt)
    return dealt[0] if dealt else None


def deal_to_queue(client: redis.Redis, app: Celery, queue: str, kind: str) -> None:
    """Send one shard to the public queue of a device that no worker serves yet."""
    _send(app, Dealt.read(Script(client)("deal", queue, kind, "")))


def deal_to_idle(client: redis.Redis, app: Celery, kind: str) -> int:
    """Send every idle worker a shard, as far as there are any; answers how many were sent."""
    num_sent = 0
    while dealt := list(Dealt.read(Script(client)("deal_idle", kind, DEALT_AT_A_TIME))):
        _send(app, dealt)
        num_sent += len(dealt)
    return num_sent


def has_work(client: redis.Redis, kind: str) -> bool:
    """True while a shard of a running job waits for a device of this kind, or for the worker it was dealt to.

    What waits because its job has all the workers that it may have is no work for another.
    """
    if client.exists(keys.ready(kind)):
        return True
    with values.read_from(keys.dealt_of(kind)):
        waiting = {
            member.partition(" ")[0]
            for key in (keys.dealt_of(kind), keys.DELAYED)
            for member in cast("list[str]", client.zrange(key, 0, DEALT_AT_A_TIME - 1))
        }
    return any(_waits(client, job_id, kind) for job_id in filter(values.JOB_ID.fullmatch, waiting))


def _waits(client: redis.Redis, job_id: str, kind: str) -> bool:
    try:
        with values.read_from(keys.job(job_id)):
            return client.hmget(keys.job(job_id), "state", "kind") == [JobState.RUNNING, kind]
    except values.Garbage:
        return False


def _send(app: Celery, dealt: "Iterator[Dealt] | list[Dealt]") -> None:
    """One message each. One that is lost is noticed: its shard stays dealt, and nobody begins it."""
    with app.producer_or_acquire() as producer:
        for each in dealt:
            app.send_task(EMBED_SHARD, args=[each.job_id, each.index], queue=each.queue, producer=producer)
