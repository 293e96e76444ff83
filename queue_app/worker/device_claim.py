"""What one worker has for itself: its device on this machine, and its name among all workers of the server.

The device is the hardware, not its number: each of two tasks on one machine may have a `gpu0` of its own.
"""

import contextlib
import logging
import os
import socket
import tempfile
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from queue_app.coordination import keys
from queue_app.coordination.redis_client import TRANSIENT, connect
from queue_app.coordination.trust.values import Garbage, read_from
from queue_app.coordination.workers import Owner, live_workers
from queue_app.errors import JobBusy, UsageError
from queue_app.host.devices import granted_devices, require_bus_order
from queue_app.host.file_lock import FileLock
from queue_app.host.own_files import make_own_directory
from queue_app.host.physical_device import physical_device, short_name
from queue_app.host.queues import Queue
from queue_app.settings import RuntimeConfig

log = logging.getLogger(__name__)

RUN = Path("/run/user")
"""Where systemd makes a directory for each user who has a session, XDG_RUNTIME_DIR there."""
CLAIM_SECONDS = 60
"""How long the server keeps a name for a worker that is starting: until it has registered, and then some."""


class DeviceClaim:
    """Locks that the kernel lets go of when the process dies."""

    def __init__(self, queue: Queue, config: RuntimeConfig) -> None:
        self.queue = queue
        self.config = config
        if queue.kind == "gpu":
            _require_bus_order(config)
        self.granted = queue.visible_device(granted_devices(config) if queue.kind == "gpu" else "")
        self.hardware = physical_device(self.granted) if queue.kind == "gpu" else ""
        # Processors can be shared: one worker per cpuN on a host and server.
        server = sha256(config.broker_url.encode()).hexdigest()[:12]
        self._directories = _lock_directories(config.locks)
        self._locks = [_Lock(self.hardware.replace("/", ".") or f"{queue}-{server}", self._directories)]
        self._server = server

    def take(self) -> None:
        """Take the device for as long as this process lives. Raises SystemExit where a worker has it."""
        try:
            self._locks[0].acquire()
        except JobBusy as error:
            raise SystemExit(
                f"{self.queue} has a worker already ({error}), and a device has one: "
                "stop that one, or give it the job with holdfast enqueue"
            ) from None

    def name(self) -> str:
        """`gpu0@host`; with the hardware, `gpu0-8f6d9a1c@host`, where another device of this host might be
        its gpu0; with a mark of the host, `gpu0@host-3fa9c2`, where another host has the same name."""
        host = socket.gethostname()
        own_number = self.granted in ("", str(self.queue.number))
        name = f"{self.queue}@{host}"
        if not own_number or not self._is_first_here(name):
            name = f"{self.queue}-{short_name(self.hardware)}@{host}" if self.hardware else name
        with contextlib.suppress(*TRANSIENT, Garbage):  # nobody can tell; it is named like most
            if self._is_of_another_host(name):
                name = f"{name}-{sha256(Owner.current(name).host_key.encode()).hexdigest()[:6]}"
        return name

    def _is_first_here(self, name: str) -> bool:
        """True for one process of this host and server at a time: each of several tasks may have been granted
        another device as its number 0."""
        lock = _Lock(f"{name}-{self._server}", self._directories)
        try:
            lock.acquire()
        except JobBusy:
            return False
        self._locks.append(lock)
        return True

    def _is_of_another_host(self, name: str) -> bool:
        """True when a live worker has the name, or one that is starting, in another boot or pid namespace."""
        own = Owner.current(name).host_key
        with connect(self.config.broker_url) as client:
            client.set(keys.name_claim(name), own, nx=True, ex=CLAIM_SECONDS)
            with read_from(keys.name_claim(name)):
                claimed_by = client.get(keys.name_claim(name))
            known = live_workers(client, self.config.lease_seconds)
        holders = {worker.host_key for worker in known if worker.name == name} | {claimed_by}
        return bool(holders - {own, None, ""})


def _require_bus_order(config: RuntimeConfig) -> None:
    try:
        require_bus_order(config)
    except UsageError as error:
        raise SystemExit(str(error)) from None


class _Lock:
    """One name, locked in every directory where another worker of this user might look for it."""

    def __init__(self, name: str, directories: Sequence[Path]) -> None:
        self._locks = [FileLock(directory / f"{name}.lock") for directory in directories]

    def acquire(self) -> None:
        """All of them or none. Raises JobBusy."""
        with contextlib.ExitStack() as taken:
            for lock in self._locks:
                taken.enter_context(lock)
            taken.pop_all()


def _lock_directories(named: Path | None) -> list[Path]:
    """Where this user's workers claim the devices of this host, whatever their environment: a service has
    neither the run-time directory of a session nor, perhaps, its temporary one, but always one of them.

    Raises SystemExit where none of them is this user's own.
    """
    if named is not None:
        usual = [named]
    else:
        usual = [RUN / str(os.geteuid()), Path(tempfile.gettempdir()) / f"holdfast-{os.geteuid()}"]
    found, foreign = [], []
    for directory in usual:
        if directory.parent == RUN and not directory.is_dir():
            continue  # nobody of this name has a session
        try:
            found.append(make_own_directory(directory))
        except OSError as error:
            foreign.append(str(error))
    if not found:
        raise SystemExit(
            f"{'; '.join(foreign)}: devices are claimed there; remove it, or have HOLDFAST_LOCKS name a "
            "directory of this user's own, the same for all workers of the host"
        )
    for each in foreign:
        log.warning("no device is claimed there: %s", each)
    return found
