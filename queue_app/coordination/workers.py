"""Who the workers are, and how the death of one is proved.

The register `holdfast:workers` has an entry for each, renewed while the worker lives.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import cast

import redis

from checkpoint.process_identity import ProcessId, host_key, identify
from queue_app.coordination import keys


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that holds a lease or a place among the workers, named so that its death can be proved.

    In Redis `gpu0@host|<host key>|<pid>|<start time>`. The host key (boot id and pid namespace) says whether
    a pid read elsewhere means anything here.
    """

    worker: str
    host_key: str
    process: ProcessId

    def encode(self) -> str:
        return f"{self.worker}|{self.host_key}|{self.process.pid}|{self.process.start_time}"

    @classmethod
    def decode(cls, text: str) -> "Owner | None":
        """None for what is not an owner, such as the empty owner of a pending shard."""
        try:
            worker, host_key, pid, start_time = text.split("|")
            return cls(worker, host_key, ProcessId(int(pid), int(start_time)))
        except ValueError:
            return None

    @classmethod
    def current(cls, worker: str) -> "Owner":
        """This process, under the name of its worker."""
        return cls(worker, host_key(), identify(os.getpid()) or ProcessId(os.getpid(), 0))

    def is_provably_dead(self) -> bool:
        """True only when it ran on this very host and is gone; elsewhere nothing can be proved."""
        return self.host_key == host_key() and identify(self.process.pid) != self.process


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

    def is_provably_dead(self) -> bool:
        owner = Owner.decode(self.owner)
        return owner is not None and owner.is_provably_dead()


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
    recent = [entry for entry in known if abs(time - entry.seen) < lease_seconds]
    return recent if with_dead else [entry for entry in recent if not entry.is_provably_dead()]
