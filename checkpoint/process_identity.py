"""Whose store it is on this host. The old owner is made sure to be gone before anything is written.

LMDB lets a writer wait for ever on a lock whose holder was stopped (SIGSTOP), so a lease that was taken
from a living process means that the process has to go.
"""

import contextlib
import json
import os
import signal
import time
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from checkpoint.errors import OwnerAlive
from checkpoint.store_files import write_as_directory

KILL_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class ProcessId:
    """One process for ever: the start time (clock ticks since boot) tells a reused pid apart."""

    pid: int
    start_time: int

    def is_alive(self) -> bool:
        return identify(self.pid) == self


def identify(pid: int) -> ProcessId | None:
    """None when there is no such process, or only its corpse."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    return None if fields[0] in "ZX" else ProcessId(pid, int(fields[19]))


@cache
def host_key() -> str:
    """Boot id and pid namespace: only where they agree does a pid mean the same process."""
    try:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return f"no-proc-{os.uname().nodename}"
    return f"{boot_id}:{namespace}"


@dataclass(frozen=True, slots=True)
class StoreOwner:
    """What owner.json holds: who opened the store, and under which token."""

    host_key: str
    process: ProcessId
    token: int

    @classmethod
    def current(cls, token: int) -> "StoreOwner":
        pid = os.getpid()
        return cls(host_key(), identify(pid) or ProcessId(pid, 0), token)

    @classmethod
    def read(cls, path: Path) -> "StoreOwner | None":
        """None when there is no owner.json, or it is unreadable."""
        try:
            fields = json.loads(path.read_text())
            return cls(fields["host_key"], ProcessId(**fields["process"]), int(fields["token"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, path: Path) -> None:
        """At once, so that a reader sees all of it or none. It need not survive a power loss."""
        temporary = path.with_name(f".{path.name}.{self.process.pid}")
        write_as_directory(temporary, json.dumps(asdict(self)))
        temporary.replace(path)

    def is_this_process(self) -> bool:
        return self.host_key == host_key() and identify(os.getpid()) == self.process

    def is_alive_here(self) -> bool:
        """True when it runs on this host, where alone a pid can be looked up."""
        return self.host_key == host_key() and self.process.is_alive()


def evict(owner: StoreOwner) -> None:
    """Make sure that a local owner is gone: SIGKILL through a pidfd, and wait for its end.

    Raises:
        OwnerAlive: it does not die, or we may not kill it.
    """
    deadline = time.monotonic() + KILL_SECONDS
    with contextlib.suppress(ProcessLookupError):
        _kill(owner.process)
    while owner.is_alive_here():
        if time.monotonic() > deadline:
            raise OwnerAlive(
                f"process {owner.process.pid} still owns the store and does not end; end it by hand"
            )
        time.sleep(0.01)


def _kill(process: ProcessId) -> None:
    descriptor = os.pidfd_open(process.pid)
    try:
        # The pidfd pins the process: if it still is the one we know, no other can take its place now.
        if process.is_alive():
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    except PermissionError:
        raise OwnerAlive(f"process {process.pid} owns the store and may not be ended by this user") from None
    finally:
        os.close(descriptor)
