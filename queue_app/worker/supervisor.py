"""The supervisor of this machine's worker processes: it starts them, restarts those that die, ends them all.

It owns no state of a job: whatever it was doing when it died, the next one starts new workers, and those
find the job directories as they are.
"""

import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from queue_app.errors import HoldfastError
from queue_app.host.lasting_threads import GAVE_UP_STATUS, UNEXPECTED_STATUS
from queue_app.host.memory import FEW_HEAPS
from queue_app.host.own_files import make_inner_directory
from queue_app.host.processes import PYTHON, ProcessFile, kill_session, killed_by, spawn
from queue_app.host.surroundings import child_environment
from queue_app.settings import RuntimeConfig
from queue_app.shown import visible_lines
from queue_app.wording import at_this_time
from queue_app.worker.metrics.ports import describe, environment, require_ports

log = logging.getLogger(__name__)

POLL_SECONDS = 0.25
QUICK_DEATH_SECONDS = 20.0
QUICK_DEATHS_MOST = 3
RESTART_MOST_SECONDS = 16.0
"""So long one that ends again and again waits at most: a minute after its cause is gone all are at work."""
NO_LOG = "it wrote no log"


@dataclass(slots=True)
class _Worker:
    queue: str
    process: subprocess.Popen[bytes]
    started: float
    born_at: int
    """Where its log begins, in the log of all its lives."""
    quick_deaths: int = 0
    unexpected: int = 0
    """Lives in a row that ended early by an error nobody expected."""
    restart_at: float | None = None
    """When it is started again, by the monotonic clock, while it waits for that."""

    def is_dead(self) -> bool:
        return self.restart_at is None and self.process.poll() is not None

    def is_due(self) -> bool:
        return self.restart_at is not None and time.monotonic() >= self.restart_at


class GPUProcessCoordinator:
    """Starts one worker process per queue, restarts those that die, and ends them all."""

    def __init__(
        self, queues: Sequence[str], env: Mapping[str, str], logs: Path | None, processes: ProcessFile
    ) -> None:
        self.queues = list(queues)
        self.env = {**FEW_HEAPS, **env}
        self.logs = logs
        self.processes = processes
        self._workers: dict[str, _Worker] = {}
        self._reduced = float("-inf")
        """When a worker was left out last because there is no room for all, by the monotonic clock."""

    def start(self) -> None:
        if self.logs is not None:
            make_inner_directory(self.logs)
        for queue in self.queues:
            self._workers[queue] = self._spawn(queue)

    def _spawn(self, queue: str, quick_deaths: int = 0, unexpected: int = 0) -> _Worker:
        born_at = log_size(self.log_of(queue))
        process = spawn(worker_command(queue), log=self.log_of(queue), env=self.env)
        self.processes.record(queue, process.pid)
        return _Worker(queue, process, time.monotonic(), born_at, quick_deaths, unexpected)

    def log_of(self, queue: str) -> Path | None:
        """None: the workers write to our own output."""
        return None if self.logs is None else self.logs / f"{queue}.log"

    def restart_dead(self) -> list[str]:
        """Start again what died since the last call; answers a line about each.

        A worker that dies again and again right after its start is left out: its shards go to others. One
        that was up, and ended by an error that nobody expected, is started again for ever, at a bounded pace:
        what the server held may be gone then.

        Raises:
            HoldfastError: none is left; says why the last one died.
        """
        for worker in list(self._workers.values()):
            if worker.is_due():
                self._workers[worker.queue] = self._spawn(worker.queue, unexpected=worker.unexpected)
        return [self._restart(worker) for worker in list(self._workers.values()) if worker.is_dead()]

    def _restart(self, worker: _Worker) -> str:
        kill_session(worker.process.pid)
        if worker.process.returncode == 0:
            return self._let_go(worker)
        if worker.process.returncode == GAVE_UP_STATUS:
            return self._reduce(worker)
        quick = time.monotonic() - worker.started < QUICK_DEATH_SECONDS
        if worker.process.returncode == UNEXPECTED_STATUS:
            return self._wait(worker, quick)
        killed = worker.process.returncode == -signal.SIGKILL  # from outside: no fault of its own
        quick_deaths = worker.quick_deaths + 1 if quick and not killed else 0
        if quick_deaths < QUICK_DEATHS_MOST:
            self._workers[worker.queue] = self._spawn(worker.queue, quick_deaths)
            return f"worker {worker.queue} died and was started again"
        if last_signal(self.log_of(worker.queue), worker.born_at):
            return self._reduce(worker)
        said = last_words(self.log_of(worker.queue), worker.born_at)
        return self._leave_out(worker, f"worker {worker.queue} does not stay up: {said}")

    def _wait(self, worker: _Worker, quick: bool) -> str:
        """It is started again, the later the more often it came to this."""
        worker.unexpected = worker.unexpected + 1 if quick else 1
        pause = min(RESTART_MOST_SECONDS, 2.0 ** (worker.unexpected - 1))
        worker.restart_at = time.monotonic() + pause
        said = last_words(self.log_of(worker.queue), worker.born_at)
        why = f" ({said})" if said != NO_LOG else ""
        return f"worker {worker.queue} ended by an error{why}; it is started again in {pause:.0f} s"

    def _let_go(self, worker: _Worker) -> str:
        """It ended in order: it was asked to drain or had nothing to do for long, and said so in its log."""
        del self._workers[worker.queue]
        return f"worker {worker.queue} has ended in order; it is not started again"

    def has_workers(self) -> bool:
        """False once each of them was left out or has ended in order."""
        return bool(self._workers)

    def _reduce(self, worker: _Worker) -> str:
        """Its child was killed again and again: for want of memory, most likely, so that one fewer may do.

        One that was killed while there were more has another try.
        """
        log_of = self.log_of(worker.queue)
        gave_up = worker.process.returncode == GAVE_UP_STATUS
        signum = None if gave_up else last_signal(log_of, worker.born_at)
        said = f"its process was {killed_by(signum)}" if signum else last_words(log_of, worker.born_at)
        why = f"worker {worker.queue}: {said}"
        if worker.started < self._reduced:
            self._workers[worker.queue] = self._spawn(worker.queue)
            return f"{why}; it is started again, as there are fewer workers now"
        self._reduced = time.monotonic()
        return self._leave_out(worker, why, "; a job needs more memory than this, or a smaller model")

    def _leave_out(self, worker: _Worker, why: str, remedy: str = "") -> str:
        """Raises HoldfastError where it was the last one."""
        del self._workers[worker.queue]
        if not self._workers:
            raise HoldfastError(why + remedy)
        return f"{why}; it is left out"

    def stop(self, *, grace_seconds: float) -> None:
        """SIGTERM to all at once, so that each can commit and give back its shard; then SIGKILL.

        Without any grace at once SIGKILL.
        """
        try:
            if grace_seconds:
                self._let_end(time.monotonic() + grace_seconds)
        finally:
            for worker in self._workers.values():
                kill_session(worker.process.pid)
                worker.process.wait()
            self._workers.clear()

    def _let_end(self, deadline: float) -> None:
        for worker in self._workers.values():
            worker.process.terminate()
        for worker in self._workers.values():
            try:
                worker.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.warning("process %d does not end in time", worker.process.pid)


def worker_command(queue: str) -> list[str]:
    """The command of one worker."""
    celery = [*PYTHON, "-m", "queue_app.worker", "-A", "queue_app", "worker", "-Q", queue]
    return [*celery, "--loglevel", "INFO"]


def log_size(log: Path | None) -> int:
    """In bytes; where the words of the next life begin."""
    return log.stat().st_size if log and log.exists() else 0


def last_words(log: Path | None, born_at: int = 0) -> str:
    """Why a worker died, by its own log: the last critical message of that life, else its last line."""
    lines = _life(log, born_at).strip().splitlines()
    said = [line for line in lines if "CRITICAL" in line] or lines or [NO_LOG]
    return said[-1].rpartition("] ")[2].strip()


def last_signal(log: Path | None, born_at: int = 0) -> int | None:
    """The signal that ended the last of a worker's children, by its own log; None where none was."""
    found = re.findall(r"exited with 'signal (\d+)", _life(log, born_at))
    return int(found[-1]) if found else None


def _life(log: Path | None, born_at: int) -> str:
    return log.read_bytes()[born_at:].decode(errors="replace") if log and log.exists() else ""


def run_workers(queues: Sequence[str], url: str, config: RuntimeConfig) -> None:
    """`holdfast worker gpu0 gpu1`: one worker each, restarted when they die.

    Until SIGTERM or Ctrl-C, or until all of them have ended in order.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    require_ports(queues, config)
    if served := describe(queues, config):
        _tell(served)
    with tempfile.TemporaryDirectory(prefix="holdfast-workers-") as scratch:
        settings = {"HOLDFAST_BROKER_URL": url, "HOLDFAST_PARENT_PID": str(os.getpid())}
        if config.exit_when_idle is not None:
            settings["HOLDFAST_EXIT_WHEN_IDLE"] = str(config.exit_when_idle)
        env = child_environment(**settings, **environment(config))
        workers = GPUProcessCoordinator(queues, env, None, ProcessFile(Path(scratch) / "processes.json"))
        try:
            workers.start()
            while workers.has_workers():
                for line in workers.restart_dead():
                    _tell(line)
                time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            _tell("shutting down: each worker ends its batch and commits")
        finally:
            workers.stop(grace_seconds=config.grace_seconds)


def _tell(text: str) -> None:
    """Among the lines that the workers log to the same place."""
    print(visible_lines(at_this_time(text)), file=sys.stderr, flush=True)
