"""Whether anything waits for workers of a kind: what one asks that would end when there is nothing to do."""

from typing import cast

import redis

from queue_app.coordination import keys
from queue_app.coordination.states import JobState

LOOKED_AT = 100
"""So many shards whose pause lasts, or that were dealt and not begun, are looked at: constant work."""


def has_work(client: redis.Redis, kind: str) -> bool:
    """True while a shard of a running job waits for a device of this kind, or for the worker it was dealt to.

    What waits because its job has all the workers that it may have is no work for another.
    """
    if client.exists(keys.ready(kind)):
        return True
    waiting = [
        member.split()[0]
        for key in (keys.dealt_of(kind), keys.DELAYED)
        for member in cast("list[str]", client.zrange(key, 0, LOOKED_AT - 1))
    ]
    return any(_runs(client, job_id, kind) for job_id in set(waiting))


def _runs(client: redis.Redis, job_id: str, kind: str) -> bool:
    return client.hmget(keys.job(job_id), "state", "kind") == [JobState.RUNNING, kind]
