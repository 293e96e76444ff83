"""Who the workers are, and how the death of one is proved.

The register has an entry for each, renewed by `tick` (dealing.py) while the worker lives.
"""

import os
from dataclasses import dataclass, replace
from typing import cast

import redis

from checkpoint.process_identity import ProcessId, host_key, identify
from queue_app.coordination import keys
from queue_app.coordination.trust import values
from queue_app.errors import UsageError
from queue_app.host.queues import device_class_of
from queue_app.settings import runtime_config

CORES_MOST = 10_000
WORKERS_MOST = 10_000
"""So many are looked at, whatever the server holds."""


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
            worker, host_key, *numbers = text.split("|", 4)
            pid, start_time = (values.whole(number, "owner") for number in numbers)
        except (ValueError, values.Garbage):
            return None
        return cls(worker, host_key, ProcessId(pid, start_time))

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
    cores: int = 0
    """That its process may use; 0: not told."""
    seen: float = 0.0

    @classmethod
    def decode(cls, text: str) -> "WorkerEntry":
        """What a worker told of itself. Raises Garbage."""
        entry = values.entry(cls, text, keys.WORKERS)
        values.worker_name(entry.name, keys.WORKERS)
        if device_class_of(entry.queue) is None:
            raise values.Garbage(f"{keys.WORKERS} {entry.name}", "its queue names no device")
        if not 0 <= entry.cores <= CORES_MOST:  # the threads of a job are taken from it
            raise values.Garbage(f"{keys.WORKERS} {entry.name}", f"{entry.cores} cores are none of a host's")
        return entry

    @property
    def kind(self) -> str:
        """Of its device."""
        return device_class_of(self.queue) or ""

    @property
    def host_key(self) -> str:
        owner = Owner.decode(self.owner)
        return owner.host_key if owner else ""

    def is_provably_dead(self) -> bool:
        owner = Owner.decode(self.owner)
        return owner is not None and owner.is_provably_dead()


def server_time(client: redis.Redis) -> float:
    """Seconds, by the one clock that all workers share."""
    seconds, microseconds = client.time()
    return seconds + microseconds / 1e6


def try_rights(client: redis.Redis) -> None:
    """Run what a worker must be allowed to run, on nothing: so that one who may not says so before it starts.

    Raises:
        redis.NoPermissionError: names the right that the server's user lacks.
    """
    nothing = keys.name_claim("")
    client.exists(keys.FLEET)
    client.eval("return 1", 0)
    client.hdel(keys.WORKERS, "")
    client.zrem(keys.SEEN, "")
    client.expire(nothing, 1)
    client.brpop([nothing], timeout=0.01)


def live_workers(client: redis.Redis, lease_seconds: float, *, with_dead: bool = False) -> list[WorkerEntry]:
    """The workers that beat within the last `lease_seconds` and are not known to be dead, by name.

    `with_dead`: also those that are. A stamp from the future counts as old: a server whose clock was set
    back must not keep the dead alive.
    """
    time = server_time(client)
    with values.read_from(keys.SEEN):
        first, last = time - lease_seconds, time + lease_seconds
        seen = client.zrangebyscore(keys.SEEN, first, last, 0, WORKERS_MOST, withscores=True)
    stamps = dict(cast("list[tuple[str, float]]", seen))
    with values.read_from(keys.WORKERS):
        entries = cast("list[str | None]", client.hmget(keys.WORKERS, sorted(stamps)) if stamps else [])
    known = values.readable(WorkerEntry.decode, filter(None, entries))
    recent = [replace(entry, seen=stamps[entry.name]) for entry in known if entry.name in stamps]
    return recent if with_dead else [entry for entry in recent if not entry.is_provably_dead()]


def live_queues(client: redis.Redis, kind: str, lease_seconds: float) -> list[str]:
    """The queues with a live worker for this kind of device."""
    queues = {worker.queue for worker in live_workers(client, lease_seconds)}
    return sorted(queue for queue in queues if device_class_of(queue) == kind)


def every_live_queue(client: redis.Redis) -> list[str]:
    """The queues of all live GPU workers; of all CPU workers, where no others live.

    Raises UsageError where there are none.
    """
    lease_seconds = runtime_config().lease_seconds
    queues = live_queues(client, "cuda", lease_seconds) or live_queues(client, "cpu", lease_seconds)
    if not queues:
        raise UsageError("no worker is running; start one (holdfast worker gpu0), or name --queues gpu0,gpu1")
    return queues
