"""One trial: a system embeds the texts in a directory of its own, a fault strikes, and all is counted."""

import ctypes
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from benchmarks.common.checkout import ROOT
from benchmarks.peers.cases import Case, Point, write_texts
from benchmarks.peers.systems import CONSOLE, HERE, INPUT, Programs, System
from tests.support.free_ports import free_ports

POLL_SECONDS = 0.02
PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, slots=True)
class Pass:
    """One forward pass that was begun."""

    at: float
    pid: int
    rows: tuple[int, ...]


@dataclass(slots=True)
class PassLog:
    """The log that hooks/sitecustomize.py writes, read as it grows."""

    path: Path
    passes: list[Pass] = field(default_factory=list)
    begun: Counter[int] = field(default_factory=Counter)
    """How often each row was begun."""
    _read: int = 0

    def read(self) -> bool:
        """True when a row was begun that never was before."""
        if not self.path.exists():
            return False
        with self.path.open("rb") as file:
            file.seek(self._read)
            *lines, rest = file.read().split(b"\n")
            self._read = file.tell() - len(rest)
        known = len(self.begun)
        for line in lines:
            at, pid, rows = line.decode().split(" ")
            made = Pass(float(at), int(pid), tuple(int(row) for row in rows.split(",") if int(row) >= 0))
            self.passes.append(made)
            self.begun.update(made.rows)
        return len(self.begun) > known


@dataclass(slots=True)
class Trial:
    """Run it once; then its fields say what happened. `patience` is in seconds without a new row."""

    system: System
    case: Case
    point: Point
    home: Path
    texts: list[str]
    programs: Programs
    patience: float
    log: PassLog = field(init=False)
    exit_code: int | None = None
    """None: it did not end."""
    seconds: float = 0.0
    struck_at: float | None = None
    begun_before: int = 0
    """How many rows were begun when the fault struck."""
    flying: frozenset[int] = frozenset()
    """The rows of the last pass of each process that was killed."""
    _process: subprocess.Popen[bytes] | None = None
    _port: int = field(default_factory=lambda: free_ports(0)[0])

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True)
        self.log = PassLog(self.home / "passes.log")
        write_texts(self.home / INPUT, self.texts, self.point.ordinal if self.case is Case.EMPTY else None)

    def run(self) -> None:
        started = time.monotonic()
        self._start()
        try:
            self._watch()
        finally:
            kill_descendants()
        self.seconds = time.monotonic() - started
        self.log.read()
        if self.case is Case.POISON:
            self._note_first_death()

    # ---- the process

    def _start(self) -> None:
        command = self.system.command(self.programs)
        with (self.home / CONSOLE).open("ab") as console:
            self._process = subprocess.Popen(
                command, cwd=self.home, env=self._environment(), stdout=console, stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip

    def _environment(self) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("HOLDFAST_", "PEERS_", "RAY_"))
        }
        return {
            **kept, **self.system.extra, "PYTHONPATH": os.pathsep.join(map(str, [HERE / "hooks", ROOT])),
            "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false", "RAY_TMPDIR": str(self.home / "ray"),
            "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0", "RAY_AUTH_MODE": "disabled",
            "PEERS_PORT": str(self._port),
            "PEERS_INPUT": str(self.home / INPUT), "PEERS_LOG": str(self.log.path),
            "PEERS_TOKENIZER": str(self.programs.model / "tokenizer.json"),
            "PEERS_POISON": str(self.point.ordinal) if self.case is Case.POISON else "",
            "PEERS_NAN": str(self.point.ordinal) if self.case is Case.NAN else "",
        }  # fmt: skip

    def _watch(self) -> None:
        assert self._process is not None
        progressed = time.monotonic()
        armed = self.case.is_kill
        while (exit_code := self._process.poll()) is None:
            if self.log.read():
                progressed = time.monotonic()
            if armed and len(self.log.begun) >= self.point.share * len(self.texts):
                self._strike()
                armed, progressed = False, time.monotonic()
            if time.monotonic() - progressed > self.patience:
                return
            time.sleep(POLL_SECONDS)
        self.exit_code = exit_code
        if armed:
            raise SystemExit(f"{self.system.title} ended before it could be killed; see {self.home}")

    # ---- the fault

    def _strike(self) -> None:
        self.begun_before = len(self.log.begun)
        if self.case is Case.WORKER:
            victims = {self.log.passes[-1].pid}
            self._kill_worker(*victims)
            self.struck_at = time.monotonic()
        else:
            victims = {each.pid for each in self.log.passes}
            kill_descendants()
            assert self._process is not None
            self._process.wait()
            self.struck_at = time.monotonic()
            self._start()
        self.log.read()
        self.flying = frozenset(row for pid in victims for row in self._last_pass(pid))

    def _kill_worker(self, pid: int) -> None:
        """The process that computes. Of Holdfast at every second point the whole worker, parent and child."""
        if self.system.is_ours and self.point.number % 2 == 0:
            os.killpg(os.getpgid(pid), signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGKILL)

    def _last_pass(self, pid: int) -> tuple[int, ...]:
        assert self.struck_at is not None
        own = [each.rows for each in self.log.passes if each.pid == pid and each.at <= self.struck_at]
        return own[-1] if own else ()

    def _note_first_death(self) -> None:
        for number, each in enumerate(self.log.passes):
            if self.point.ordinal in each.rows:
                self.struck_at, self.flying = each.at, frozenset(each.rows) - {self.point.ordinal}
                self.begun_before = len({row for earlier in self.log.passes[:number] for row in earlier.rows})
                return

    # ---- what is asked afterwards

    def back_after(self) -> float | None:
        """Seconds from the fault (all killed: from the second command) until another process computes.

        That is one which begins its first pass, or any that begins a row which was lost in flight. With a
        record that kills: until its neighbours are begun for the last time, for before they only died again.
        None: never, or not measured.
        """
        if self.struck_at is None or self.exit_code is None:
            return None
        known = {each.pid for each in self.log.passes if each.at <= self.struck_at}
        after = [each for each in self.log.passes if each.at > self.struck_at]
        lost = [each.at for each in after if self.flying & set(each.rows)]
        if self.case is Case.POISON:
            return lost[-1] - self.struck_at if lost else None
        back = lost + [each.at for each in after if each.pid not in known]
        return min(back) - self.struck_at if back else None

    def goes_round(self) -> bool:
        """True when it was still computing, the same rows again and again, when patience ended."""
        last_new = max((each.at for each in self.log.passes), default=0.0)
        return self.exit_code is None and time.monotonic() - last_new < self.patience / 2


def adopt_orphans() -> None:
    """Have every descendant whose parent dies become our child, so that none is missed."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def kill_descendants() -> None:
    """SIGKILL every process that we started, and those that they started."""
    ourselves = psutil.Process()
    while left := _alive(ourselves.children(recursive=True)):
        for process in left:
            process.kill()
        psutil.wait_procs(left, timeout=1)


def _alive(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    alive = []
    for process in processes:
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                alive.append(process)
        except psutil.NoSuchProcess:
            continue
    return alive
