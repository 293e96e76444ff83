"""What one worker has for itself: its device on this machine, and its name among all workers of the server.

The device is the hardware, not its number: each of two tasks on one machine may have a `gpu0` of its own.
"""

import contextlib
import logging
import os
import socket
import tempfile
from hashlib import sha256
from pathlib import Path

from queue_app.coordination import keys
from queue_app.coordination.redis_client import TRANSIENT, connect
from queue_app.coordination.workers import Owner, live_workers
from queue_app.errors import JobBusy
from queue_app.host.file_lock import FileLock
from queue_app.host.physical_device import physical_device, short_name
from queue_app.host.queues import Queue
from queue_app.settings import RuntimeConfig
from queue_app.trust.values import Garbage, read_from

log = logging.getLogger(__name__)

CLAIM_SECONDS = 60
"""How long the server keeps a name for a worker that is starting: until it has registered, and then some."""


class DeviceClaim:
    """Locks that the kernel lets go of when the process dies."""

    def __init__(self, queue: Queue, config: RuntimeConfig) -> None:
        self.queue = queue
        self.config = config
        self.granted = queue.visible_device(config.visible_devices)
        self.hardware = physical_device(self.granted) if queue.kind == "gpu" else ""
        # Processors can be shared: one worker per cpuN on a host and server.
        server = sha256(config.broker_url.encode()).hexdigest()[:12]
        self._locks = [_lock(self.hardware.replace("/", ".") or f"{queue}-{server}")]
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
        lock = _lock(f"{name}-{self._server}")
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


def _lock(name: str) -> FileLock:
    directory = Path(tempfile.gettempdir()) / f"holdfast-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    return FileLock(directory / f"{name}.lock")
