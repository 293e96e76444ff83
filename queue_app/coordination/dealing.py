"""Dealing: which worker gets which shard next, and the one message that tells it.

A shard waits in the manifest until a worker is free for it, so there is no message that could grow old. Each
worker has a queue of its own, named like the worker, beside the public one of its device.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import cast

import redis
from celery import Celery

from queue_app.celery_app import EMBED_SHARD
from queue_app.coordination import keys
from queue_app.coordination.script import Script
from queue_app.coordination.states import JobState
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
            yield cls(queue, job_id, int(index))


@dataclass(frozen=True, slots=True)
class LeaseSeen:
    """A lease as one observer sees it."""

    job_id: str
    index: int
    beat: int
    token: int
    owner: str


@dataclass(frozen=True, slots=True)
class Tick:
    """What a worker's parent has to know every few seconds, told when it says that the worker lives."""

    is_asked_to_leave: bool
    has_messages: bool
    """In its own queue or in that of its device."""
    fleet: str
    """What the server holds as the fleet's id (fleet.py); empty where it has none."""
    leases: tuple[LeaseSeen, ...]
    """Those that it is to observe, however many there are in all."""


def tick(client: redis.Redis, entry: WorkerEntry) -> Tick:
    """Tell that the worker lives. Three live workers observe each lease, and those of the same host."""
    told = json.dumps(asdict(entry))
    is_asked, num_queues, fleet, *found = Script(client)(
        "tick", entry.name, entry.kind, entry.host_key, told, entry.queue
    )
    leases = tuple(
        LeaseSeen(job_id, int(index), int(beat), int(token), owner)
        for job_id, index, beat, token, owner in zip(*(found[part::5] for part in range(5)), strict=True)
    )
    return Tick(bool(int(is_asked)), int(num_queues) > 0, fleet, leases)


def leave(client: redis.Redis, name: str) -> None:
    """The worker has ended: what was dealt to it goes to others."""
    Script(client)("leave", name)


def deal_to(client: redis.Redis, app: Celery, entry: WorkerEntry, *, is_idle: bool = False) -> bool:
    """Send a worker its next shard, if there is one for it; one that is idle waits for it otherwise."""
    operation = "ask" if is_idle else "deal"
    dealt = list(Dealt.read(Script(client)(operation, entry.name, entry.kind, entry.host_key)))
    _send(app, dealt)
    return bool(dealt)


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
    waiting = {
        member.split()[0]
        for key in (keys.dealt_of(kind), keys.DELAYED)
        for member in cast("list[str]", client.zrange(key, 0, DEALT_AT_A_TIME - 1))
    }
    wanted = [JobState.RUNNING, kind]
    return any(client.hmget(keys.job(job_id), "state", "kind") == wanted for job_id in waiting)


def _send(app: Celery, dealt: "Iterator[Dealt] | list[Dealt]") -> None:
    """One message each. One that is lost is noticed: its shard stays dealt, and nobody begins it."""
    with app.producer_or_acquire() as producer:
        for each in dealt:
            app.send_task(EMBED_SHARD, args=[each.job_id, each.index], queue=each.queue, producer=producer)
