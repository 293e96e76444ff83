"""The register of workers: one entry each in `holdfast:workers`, renewed while the worker lives."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import cast

import redis

from queue_app.coordination import keys
from queue_app.coordination.owner import Owner


@dataclass(frozen=True, slots=True)
class WorkerEntry:
    """One worker. `seen` is the server's time (seconds) of its last beat; `owner` its parent process."""

    name: str
    queue: str
    device: str
    host: str
    pid: int
    child_pid: int
    owner: str
    seen: float = 0.0


def server_time(client: redis.Redis) -> float:
    """Seconds, by the one clock that all workers share."""
    seconds, microseconds = client.time()
    return seconds + microseconds / 1e6


def register(client: redis.Redis, entry: WorkerEntry) -> None:
    """Write the entry, with the server's time on it."""
    stamped = replace(entry, seen=server_time(client))
    client.hset(keys.WORKERS, entry.name, json.dumps(asdict(stamped)))


def unregister(client: redis.Redis, name: str) -> None:
    client.hdel(keys.WORKERS, name)


def live_workers(client: redis.Redis, lease_seconds: float, *, with_dead: bool = False) -> list[WorkerEntry]:
    """The workers that beat within the last `lease_seconds` and are not known to be dead, by name.

    `with_dead`: also those that are. A stamp from the future counts as old: a server whose clock was set
    back must not keep the dead alive.
    """
    time = server_time(client)
    entries = cast("Mapping[str, str]", client.hgetall(keys.WORKERS))
    known = (WorkerEntry(**json.loads(text)) for _, text in sorted(entries.items()))
    return [
        entry for entry in known if abs(time - entry.seen) < lease_seconds and (with_dead or not _dead(entry))
    ]


def _dead(entry: WorkerEntry) -> bool:
    owner = Owner.decode(entry.owner)
    return owner is not None and owner.is_provably_dead()
