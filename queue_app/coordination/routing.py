"""Which queue a shard's message goes to, and what waits in the queues."""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import redis

from queue_app.coordination.states import ShardStatus
from queue_app.coordination.workers import WorkerEntry, live_workers
from queue_app.errors import UsageError
from queue_app.host.queues import device_class_of
from queue_app.job.shard_table import Shard
from queue_app.job.spec import Job
from queue_app.settings import runtime_config

Routes = dict[int, str]
"""shard index -> queue"""


def deal(shards: Sequence[Shard], queues: Sequence[str]) -> Routes:
    """Deal the shards out in order, each to the queue with the least cost so far."""
    load = dict.fromkeys(queues, 0)
    routes: Routes = {}
    for shard in shards:
        queue = min(load, key=lambda name: load[name])
        load[queue] += shard.cost
        routes[shard.index] = queue
    return routes


def live_queues(client: redis.Redis, job: Job, lease_seconds: float) -> list[str]:
    """The queues with a live worker of the kind of device that the job was planned for."""
    queues = {worker.queue for worker in live_workers(client, lease_seconds)}
    return sorted(queue for queue in queues if device_class_of(queue) == job.options.device_class)


def every_live_queue(client: redis.Redis) -> list[str]:
    """The queues of all live GPU workers; of all CPU workers, where no others live.

    Raises UsageError where there are none.
    """
    queues = sorted({worker.queue for worker in live_workers(client, runtime_config().lease_seconds)})
    if not queues:
        raise UsageError("no worker is running; start one (holdfast worker gpu0), or name --queues gpu0,gpu1")
    return [queue for queue in queues if device_class_of(queue) == "cuda"] or queues


def lively_workers(client: redis.Redis, lease_seconds: float) -> list[WorkerEntry]:
    """Those heard of just now; a worker dies with its shard, but counts as live about as long."""
    just_now = live_workers(client, lease_seconds / 3)
    return just_now or live_workers(client, lease_seconds)


def queued_shards(client: redis.Redis, queue: str) -> set[tuple[str, int]]:
    """(job id, shard index) of every message that waits in a queue; what is not a message is passed over."""
    found = set()
    for item in cast("list[str]", client.lrange(queue, 0, -1)):
        try:
            (job_id, _, index), *_ = json.loads(base64.b64decode(json.loads(item)["body"]))
        except (ValueError, KeyError, TypeError):
            continue
        found.add((job_id, index))
    return found


def route(shards: Iterable[ShardStatus], waiting: Mapping[str, int]) -> Routes:
    """Each shard to its own queue while that is live, else to the one with the fewest messages.

    `waiting` counts the messages in each live queue. A shard for whose kind of device nobody lives is
    left out.
    """
    load = dict(waiting)
    routes: Routes = {}
    for shard in shards:
        fitting = [queue for queue in load if device_class_of(queue) == device_class_of(shard.queue)]
        if fitting:
            queue = shard.queue if shard.queue in load else min(fitting, key=lambda name: load[name])
            load[queue] += 1
            routes[shard.index] = queue
    return routes


def share(waiting: Sequence[ShardStatus], idle: Iterable[str]) -> Routes:
    """One waiting shard to each idle queue: the last ones, which would wait longest."""
    left = list(waiting)
    routes: Routes = {}
    for queue in idle:
        fitting = [shard for shard in left if device_class_of(queue) == device_class_of(shard.queue)]
        if fitting:
            routes[fitting[-1].index] = queue
            left.remove(fitting[-1])
    return routes
