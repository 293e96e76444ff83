"""What a careful user sets up by hand: late acknowledgement, rejection on a lost worker, one task at a time.

    celery -A benchmarks.takeover.stock_celery worker

BROKER_URL says where the server is; VISIBILITY_TIMEOUT (seconds) makes it a tuned one.

The task stands for a shard: it notes its progress in a file until it is told that it was enough.
"""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from celery import Celery

from benchmarks.common.checkout import ROOT
from queue_app.host.processes import kill_session, spawn
from tests.support.waiting import wait_for

TASK_SECONDS = 3600.0

app = Celery("stock", broker=os.environ.get("BROKER_URL", "memory://"))
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    worker_concurrency=1,
)
if timeout := os.environ.get("VISIBILITY_TIMEOUT"):
    app.conf.broker_transport_options = {"visibility_timeout": float(timeout)}


@app.task
def shard(progress: str, seconds: float) -> None:
    """Append "time, pid of the worker" to the file several times a second."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with Path(progress).open("a") as file:
            print(time.time(), os.getppid(), file=file)
        time.sleep(0.2)


@dataclass(slots=True)
class Stock:
    """A killed worker's task, and since when it waits for the idle worker beside it."""

    progress: Path
    killed: float
    dead: int

    def seconds(self) -> float | None:
        """From the kill to the first progress of the other worker; None: it has not gone on."""
        for line in self.progress.read_text().splitlines():
            at, worker = line.split()
            if int(worker) != self.dead:
                return float(at) - self.killed
        return None


@contextlib.contextmanager
def stock(home: Path, url: str, database: int, timeout: int | None) -> Iterator[Stock]:
    """Two workers, one of them killed in the middle of the only task."""
    home.mkdir()
    progress = home / "progress"
    progress.touch()
    env = {**os.environ, "PYTHONPATH": str(ROOT), "BROKER_URL": f"{url[:-1]}{database}"}
    if timeout:
        env["VISIBILITY_TIMEOUT"] = str(timeout)
    celery = [sys.executable, "-m", "celery", "-A", __name__]
    workers = [
        spawn([*celery, "worker", "-n", f"{name}@%h"], log=home / f"{name}.log", env=env) for name in "ab"
    ]
    try:
        call = ["call", shard.name, f'--args=["{progress}", {TASK_SECONDS}]']
        subprocess.run([*celery, *call], env=env, check=True, capture_output=True)
        line = wait_for(lambda: progress.read_text(), "the first progress")
        holder = int(line.split()[1])
        (held,) = [worker for worker in workers if worker.pid == holder]
        kill_session(held.pid)
        held.wait()
        yield Stock(progress, time.time(), holder)
    finally:
        for worker in workers:
            kill_session(worker.pid)
            worker.wait()
