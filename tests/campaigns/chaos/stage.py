"""The stage: one real server, a proxy before it, and real workers that are started again when they die.

Everything is on loopback and in one private directory, and dies with this process.
"""

import contextlib
import heapq
import itertools
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import redis

from checkpoint.process_identity import ProcessId, identify
from queue_app.coordination.embedded_server import EmbeddedServer, ServerAddress
from queue_app.coordination.redis_client import connect
from queue_app.host.processes import ProcessFile, kill_session, spawn
from queue_app.job.directory import JobDir
from queue_app.worker.supervisor import last_words, log_size, worker_command
from tests.campaigns.chaos.journal import Journal
from tests.campaigns.chaos.machine import NAMESPACE, Clock, SmallDisk
from tests.campaigns.chaos.pace import QUICK, Pace
from tests.campaigns.chaos.proxy import TcpProxy
from tests.support import ROOT

KILL_POINTS = Path(__file__).resolve().parent / "killpoints"
"""The directory of the sitecustomize.py that strikes inside a worker."""
RESTART_SECONDS_MOST = 1.0
EPOCH = time.time() - time.monotonic()
"""The wall clock's time at zero of the monotonic clock, which no fault moves."""


@dataclass(slots=True)
class Worker:
    """One worker process and its children, and what was done to it."""

    queue: str
    process: subprocess.Popen[bytes]
    host: str
    born_at: int
    """Where its log begins, in the log of all its lives."""
    stopped: bool = False
    killed: bool = False
    """We ended it, so its end says nothing about the product."""
    restart_at: float | None = None

    @property
    def parent(self) -> int:
        return self.process.pid

    def is_up(self) -> bool:
        return self.process.poll() is None

    def child(self) -> int | None:
        """The process that computes; None while there is none."""
        try:
            children = Path(f"/proc/{self.parent}/task/{self.parent}/children").read_text().split()
        except OSError:
            return None
        return int(children[0]) if children else None


@dataclass(frozen=True, slots=True)
class End:
    """A process that a fault ended or stopped while it may have been computing, by the monotonic clock."""

    fault: str
    pid: int
    at: float
    fatal: bool
    crowd: float
    """How many processes wanted each core then, at least 1."""


@dataclass(slots=True)
class Stage:
    """Start it, call `tick` often, stop it whatever happens."""

    home: Path
    rng: random.Random
    queues: Sequence[str]
    pace: Pace = QUICK
    journal: Journal = field(init=False)
    server: EmbeddedServer = field(init=False)
    proxy: TcpProxy = field(init=False)
    client: redis.Redis = field(init=False)
    small_disk: SmallDisk | None = field(init=False)
    """None where nothing can be mounted."""
    on_small_disk: set[str] = field(default_factory=set)
    """The jobs, by id, whose directory lies on it."""
    clocks: dict[str, Clock] = field(default_factory=dict)
    """Of `workers` and `server`; empty where no clock can be moved."""
    striking: str = ""
    """The fault that strikes just now."""
    ends: list[End] = field(default_factory=list)
    workers: dict[str, Worker] = field(default_factory=dict)
    deaths: Counter[str] = field(default_factory=Counter)
    """Last words of workers that ended without our doing."""
    _later: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        for directory in (self.jobs, self.logs, self.kill_points, self.events):
            directory.mkdir(parents=True)
        clocks = {name: Clock(self.home / f"{name}.clock") for name in ("workers", "server")}
        if all(clock.can_move() for clock in clocks.values()):
            self.clocks = clocks
        self.small_disk = SmallDisk(self.jobs / "small") if NAMESPACE in os.environ else None
        self.journal = Journal(self.logs)
        self.server = EmbeddedServer(JobDir(self.home / "server"), ProcessFile(self.home / "processes.json"))
        self.proxy = TcpProxy(lambda: self._address.port)

    @property
    def jobs(self) -> Path:
        """The root under which every job directory lies."""
        return self.home / "jobs"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def kill_points(self) -> Path:
        """Where a file arms a kill point."""
        return self.home / "killpoints"

    @property
    def events(self) -> Path:
        """Where workers note what they compute and commit."""
        return self.home / "events"

    @property
    def _address(self) -> ServerAddress:
        assert self.server.address is not None
        return self.server.address

    @property
    def url(self) -> str:
        """The server itself, past the proxy."""
        return self._address.url

    def environment(self, **extra: str) -> dict[str, str]:
        """What workers and producers run with: the product of this checkout, and the proxy's address."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}
        url = f"redis://:{self._address.password}@127.0.0.1:{self.proxy.port}/0"
        roots = os.pathsep.join(map(str, [self.jobs, *([self.small_disk.path] if self.small_disk else [])]))
        return {
            **kept, **self.pace.settings, "HOLDFAST_BROKER_URL": url, "HOLDFAST_ROOTS": roots,
            "HOLDFAST_STATE": str(self.home / "state"),
            "PYTHONPATH": str(ROOT), **extra,
        }  # fmt: skip

    # ---- from start to stop

    @contextlib.contextmanager
    def running(self) -> Iterator["Stage"]:
        with contextlib.ExitStack() as afterwards:
            if self.small_disk:
                self.small_disk.mount()
            afterwards.callback(self.server.stop)
            self.start_server()
            afterwards.callback(lambda: self.client.close())
            self.proxy.start()
            afterwards.callback(self.proxy.stop)
            afterwards.callback(self._stop_workers)
            for queue in self.queues:
                self._start_worker(queue)
            yield self

    def _stop_workers(self) -> None:
        for worker in self.workers.values():
            kill_session(worker.parent)
            worker.process.wait()

    def tick(self) -> None:
        """Do what is due, and start again what has died."""
        while self._later and self._later[0][0] <= time.monotonic():
            heapq.heappop(self._later)[2]()
        for worker in self.workers.values():
            self._look_after(worker)
        self.journal.read()

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Have `tick` call `action` in so many seconds."""
        heapq.heappush(self._later, (time.monotonic() + seconds, next(self._numbers), action))

    def is_quiet(self) -> bool:
        """True when nothing is left that a fault will still do or undo."""
        return not self._later and all(worker.is_up() for worker in self.workers.values())

    def renew_workers(self) -> None:
        """Kill them all; `tick` starts others in their place."""
        for worker in self.workers.values():
            worker.killed = True
            kill_session(worker.parent)

    # ---- the server

    def start_server(self) -> None:
        with _set_in_environment(self.clocks["server"].environment() if self.clocks else {}):
            self.server.start()
        self.client = connect(self._address.url)

    def kill_server(self, *, lose_data: bool, away_seconds: float) -> bool:
        """SIGKILL it, and start it again after a while; False when it is away already."""
        if not self.server.is_running():
            return False
        assert self.server.process is not None
        self.client.close()
        self.server.process.kill()
        self.server.process.wait()
        if lose_data:
            shutil.rmtree(self.server.data)
        self.later(away_seconds, self.start_server)
        return True

    # ---- the workers

    def note_end(
        self, pid: int | None, *, fault: str = "", fatal: bool = True, at: float | None = None
    ) -> None:
        """Call it right after the signal was sent, or say when that was."""
        if pid is not None:
            crowd = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
            self.ends.append(End(fault or self.striking, pid, at or time.monotonic(), fatal, crowd))

    def _start_worker(self, queue: str) -> None:
        # A host of its own: nobody can prove the death of its processes or end them, so that a zombie
        # really wakes up beside the one that took its shard. On the same host it is ended instead.
        host = self.rng.choice(["", f"host-of-{queue}", f"host-of-{queue}"])
        env = self.environment(
            **(self.clocks["workers"].environment() if self.clocks else {}),
            PYTHONPATH=os.pathsep.join(map(str, [KILL_POINTS, ROOT])),
            CHAOS_KILL_POINTS=str(self.kill_points),
            CHAOS_WORKER=queue,
            CHAOS_HOST=host,
            CHAOS_EVENTS=str(self.events / f"{queue}.jsonl"),
            CHAOS_EPOCH=str(EPOCH),
        )
        log = self.logs / f"{queue}.log"
        born_at = log_size(log)
        self.workers[queue] = Worker(queue, spawn(worker_command(queue), log=log, env=env), host, born_at)

    def _look_after(self, worker: Worker) -> None:
        if worker.is_up():
            return
        if worker.restart_at is None:
            if not worker.killed:
                said = last_words(self.logs / f"{worker.queue}.log", worker.born_at)
                self.deaths[f"exit {worker.process.returncode}: {said}"] += 1
            worker.restart_at = time.monotonic() + self.rng.uniform(0, RESTART_SECONDS_MOST)
        elif time.monotonic() >= worker.restart_at:
            self._start_worker(worker.queue)

    def pick_worker(self) -> Worker | None:
        """One that is up, not stopped, and has a child; most often one that is computing, or none.

        So the pace of the kills is that of the machine: where a worker takes long to start, it is not
        killed again and again before it gets to work.
        """
        ready = [
            worker
            for worker in self.workers.values()
            if worker.is_up() and not worker.stopped and not worker.killed and worker.child()
        ]
        busy = [worker for worker in ready if self.journal.shard_of(worker.queue)]
        choice = busy if self.rng.random() < 0.9 else ready
        return self.rng.choice(choice) if choice else None


@contextlib.contextmanager
def _set_in_environment(variables: Mapping[str, str]) -> Iterator[None]:
    """For what a child inherits that takes no environment of its own."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            os.environ.pop(name)
        os.environ.update({name: before[name] for name in variables if name in before})


def send(signal_number: signal.Signals, process: ProcessId | None) -> bool:
    """Signal one process, if it is still the one that is meant."""
    if process is None or identify(process.pid) != process:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal_number)
        return True
    return False
