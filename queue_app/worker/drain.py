"""Drain: a worker is asked to end its batch, commit, give its shard back and leave.

The request is an entry of the hash `holdfast:drain` under the worker's name; its parent hears of it with its
next tick (dealing.py). It is for the process that has the name when it is made: one that comes later hears
nothing. Where the fleet has a key it is signed: a worker that left so is not started again.
"""

from collections.abc import Sequence

import redis

from queue_app.coordination import keys
from queue_app.coordination.redis_client import ring_of
from queue_app.coordination.trust.signed_entries import drain_request
from queue_app.coordination.trust.values import read_from
from queue_app.coordination.workers import WorkerEntry, live_workers, server_time
from queue_app.errors import UsageError


def request_drain(client: redis.Redis, target: str, lease_seconds: float) -> list[WorkerEntry]:
    """Ask the worker of this name, or all workers of the host of this name; answers which were asked.

    Raises:
        UsageError: no live worker and no host of one has this name; says which there are.
    """
    alive = live_workers(client, lease_seconds)
    asked = [worker for worker in alive if target in (worker.name, worker.host)]
    if not asked:
        known = ", ".join(f"{worker.name} (host {worker.host})" for worker in alive)
        raise UsageError(
            f"{target}: no live worker and no host of one has this name; "
            + (f"there are {known}" if alive else "no worker is running")
        )
    now = server_time(client)
    ring = ring_of(client)
    with read_from(keys.DRAIN):
        for worker in asked:
            client.hset(keys.DRAIN, worker.name, drain_request(ring, worker.name, worker.owner, now))
    return asked


def still_there(client: redis.Redis, asked: Sequence[WorkerEntry], lease_seconds: float) -> list[WorkerEntry]:
    """Those of the workers that have not left yet. A new process under an old name is another worker."""
    alive = {(worker.name, worker.owner) for worker in live_workers(client, lease_seconds)}
    return [worker for worker in asked if (worker.name, worker.owner) in alive]
