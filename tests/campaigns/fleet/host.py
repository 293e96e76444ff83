"""A host: its own network, process table, mounts, host name, boot id and scratch, and the workers on it."""

import contextlib
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from queue_app.host.processes import PYTHON, kill_session, spawn
from tests.campaigns.chaos.machine import SmallDisk
from tests.campaigns.fleet.namespaces import OF_A_HOST, Network, run
from tests.support import ROOT

FIRST_PROCESS = """
set -e
hostname "$0"
mount --bind "$1" /proc/sys/kernel/random/boot_id
touch "$2"
while :; do sleep 5; done
"""
"""As the first of its process table it takes in orphans; a shell buries them."""
UP_SECONDS = 20.0
POLL_SECONDS = 0.05


class Scratch(StrEnum):
    """What a host's local directory for checkpoints is like."""

    GOOD = "good"
    SMALL = "a small disk of its own"
    FULL = "full"
    READ_ONLY = "read-only"
    MISSING = "not there, and cannot be made"


@dataclass(slots=True)
class Host:
    """`start` it before anything else; `power_off` leaves nothing of it but its directory.

    `environment` is what its workers run with, beside the names of its own directories.
    """

    name: str
    home: Path
    network: Network
    shared: Path
    """The directory that all hosts see under the same path."""
    queues: Sequence[str]
    environment: Mapping[str, str]
    scratch: Scratch = Scratch.GOOD
    cable: str = field(init=False, default="")
    first: int = field(init=False, default=0)
    """The pid, seen from outside, of the first process of its process table."""
    _unshare: subprocess.Popen[bytes] | None = field(init=False, default=None)
    _workers: subprocess.Popen[bytes] | None = field(init=False, default=None)

    @property
    def log(self) -> Path:
        """What its workers say, over all their lives."""
        return self.home / "workers.log"

    @property
    def gates(self) -> Path:
        """Where a file arms a gate (hooks/sitecustomize.py)."""
        return self.home / "gates"

    @property
    def scratch_path(self) -> Path:
        missing = self.scratch is Scratch.MISSING
        return self.home / "read-only" / "scratch" if missing else self.home / "scratch"

    # ---- its power

    def start(self) -> None:
        for directory in (self.home / "tmp", self.home / "scratch", self.home / "read-only", self.gates):
            directory.mkdir(parents=True, exist_ok=True)
        boot_id, up = self.home / "boot_id", self.home / "up"
        boot_id.write_text(f"{uuid.uuid4()}\n")
        first = [*OF_A_HOST, "sh", "-c", FIRST_PROCESS, self.name, str(boot_id), str(up)]
        self._unshare = spawn(first, log=self.home / "host.log", env=os.environ)
        if not until(up.exists, UP_SECONDS):
            raise RuntimeError(f"{self.name} does not start: {(self.home / 'host.log').read_text()}")
        up.unlink()
        (self.first,) = children(self._unshare.pid)
        self.cable = self.network.plug(self.first)
        self._make_scratch()

    def power_off(self) -> None:
        """All its processes are gone at once, and its network with them."""
        if self._unshare is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.first, signal.SIGKILL)
        self._unshare.wait()
        if self._workers is not None:
            self._workers.wait()
        self._unshare = self._workers = None

    def is_on(self) -> bool:
        return self._unshare is not None

    def cut(self) -> None:
        """Pull its cable: it does not reach the server, nor the server it. The shared directory stays."""
        self.network.set_cable(self.cable, "down")

    def heal(self) -> None:
        self.network.set_cable(self.cable, "up")

    # ---- its disks

    def _make_scratch(self) -> None:
        if self.scratch in (Scratch.SMALL, Scratch.FULL):
            self.enter("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", self.scratch_path)
        if self.scratch is Scratch.FULL:
            self.disk().fill()
        if self.scratch in (Scratch.READ_ONLY, Scratch.MISSING):
            where = self.home / ("scratch" if self.scratch is Scratch.READ_ONLY else "read-only")
            self.enter("mount", "-t", "tmpfs", "-o", "ro", "tmpfs", where)

    def disk(self) -> SmallDisk:
        """Its scratch as it is seen from outside, to be filled and emptied."""
        return SmallDisk(Path(f"/proc/{self.first}/root{self.scratch_path}"))

    def hide_shared(self) -> None:
        """As when the shared directory is not mounted: an empty directory lies in its place."""
        self.enter("mount", "-t", "tmpfs", "tmpfs", self.shared)

    def show_shared(self) -> None:
        self.enter("umount", "--lazy", self.shared)

    # ---- its processes

    def enter(self, *command: str | Path) -> None:
        """Run a command on the host, to its end; it must succeed."""
        run(*self._entering(), *command)

    def start_workers(self) -> None:
        """One `holdfast worker` for all its queues, which starts again what dies of them."""
        own = {
            "HOLDFAST_SCRATCH": str(self.scratch_path),
            "HOLDFAST_STATE": str(self.home / "state"),
            "TMPDIR": str(self.home / "tmp"),
            "FLEET_GATES": str(self.gates),
        }
        command = [*PYTHON, "-m", "queue_app.cli.main", "worker", *self.queues]
        env = {**self.environment, **own}
        self._workers = spawn([*self._entering(f"--wdns={ROOT}"), *command], log=self.log, env=env)

    def workers_are_up(self) -> bool:
        return self._workers is not None and self._workers.poll() is None

    def kill_workers(self) -> None:
        """SIGKILL the command and all its workers; nothing starts them again."""
        if self._workers is not None:
            kill_session(self._workers.pid)
            for pid in self.worker_pids():
                kill_session(pid)
            self._workers.wait()

    def worker_pids(self) -> list[int]:
        """The parents of its workers, seen from outside."""
        above = [self.first, *([self._workers.pid] if self._workers else [])]
        return [pid for each in above for pid in _descendants(each) if _is_worker(pid)]

    def _entering(self, *options: str) -> list[str]:
        spaces = ["--net", "--uts", "--pid", "--mount"]
        return ["nsenter", "--target", str(self.first), *spaces, *options, "--"]


def children(pid: int) -> list[int]:
    """The processes that a process started, or took in; none where it is gone."""
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _descendants(pid: int) -> Iterator[int]:
    for child in children(pid):
        yield child
        yield from _descendants(child)


def _is_worker(pid: int) -> bool:
    """A worker's parent: its child bears the same command line."""
    try:
        is_ours = b"queue_app.worker" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        above = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1]
        return is_ours and b"queue_app.worker" not in Path(f"/proc/{above}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False


def until(condition: Callable[[], object], seconds: float) -> bool:
    """Wait until something is so; False when it was not in that time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True
