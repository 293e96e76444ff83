"""Whether anything waits for workers of a kind: what one asks that would end when there is nothing to do."""

from collections.abc import Mapping
from typing import cast

import redis

from queue_app.choices import DeviceClass
from queue_app.coordination import keys
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.states import JobState, ShardState
from queue_app.host.queues import device_class_of


def has_work(client: redis.Redis, kind: DeviceClass) -> bool:
    """True while a shard of a running job waits for a device of this kind."""
    known = cast("Mapping[str, str]", client.hgetall(keys.JOBS))
    return any(_waits(client, job_id, kind) for job_id in known)


def _waits(client: redis.Redis, job_id: str, kind: DeviceClass) -> bool:
    status = CheckpointManifest(client, job_id).job_status()
    if status is None or status.state is not JobState.RUNNING or not status.shards[ShardState.PENDING]:
        return False
    # A job is planned for one kind of device: any shard's queue says which.
    return device_class_of(cast("str", client.hget(keys.shard(job_id, 0), "queue") or "")) == kind
