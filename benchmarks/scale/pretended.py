"""Workers without a device: light threads that speak the real protocol, and compute by sleeping.

    python -m benchmarks.scale.pretended URL FIRST COUNT SECONDS SHARD_SECONDS

Each beats, observes and asks as a worker's parent does, takes its messages by BRPOP from its own queue, files
and acknowledges them as kombu does, sends the events that Flower reads, and acquires, beats and completes
shards. SHARD_SECONDS 0: there is nothing to do.
"""

import contextlib
import json
import random
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import redis
from celery import Celery

from checkpoint.process_identity import ProcessId
from queue_app.coordination import keys
from queue_app.coordination.dealing import deal_to
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.redis_client import connect
from queue_app.coordination.states import Lease
from queue_app.coordination.workers import Owner, WorkerEntry
from queue_app.job.shard_table import Shard
from queue_app.job.spec import Progress
from queue_app.settings import RuntimeConfig
from queue_app.worker.reconciler import Reconciler

BRPOP_SECONDS = 5
EVENT_SECONDS = 10.0
MESSAGE_PADDING = "x" * 700
"""A message of Celery's has about a kilobyte."""
EVENT = json.dumps({"type": "worker-heartbeat", "padding": "x" * 200})
NUM_RECORDS = 16


@dataclass
class LightApp:
    """Puts in a queue what Celery would, and counts nothing."""

    client: redis.Redis

    @contextlib.contextmanager
    def producer_or_acquire(self) -> Iterator[None]:
        yield

    def send_task(self, name: str, args: Sequence[Any], queue: str, producer: object = None) -> None:
        self.client.lpush(queue, json.dumps([*args, name, MESSAGE_PADDING]))


@dataclass
class PretendedWorker:
    """One worker; `run` ends with `ended`."""

    url: str
    number: int
    shard_seconds: float
    ended: threading.Event
    config: RuntimeConfig = field(default_factory=RuntimeConfig)
    num_done: int = 0

    def __post_init__(self) -> None:
        self.client = connect(self.url)
        self.messages = redis.Redis.from_url(self.url, decode_responses=True)
        self.app = cast("Celery", LightApp(self.client))
        host = f"host{self.number}"
        name = f"gpu0@{host}"
        owner = Owner(name, f"boot-{host}:1", ProcessId(1, 1)).encode()
        self.entry = WorkerEntry(name, "gpu0", "cuda:0", host, 1, 2, owner)
        self.reconciler = Reconciler(
            self.client,
            self.app,
            lease_seconds=self.config.lease_seconds,
            resend_seconds=self.config.resend_seconds,
        )
        now = time.monotonic()
        self.next_tick = now + random.uniform(0, self.config.beat_seconds)
        self.next_event = now + random.uniform(0, EVENT_SECONDS)
        self.first_share = random.random()  # of its first shard: so that not all end at the same moment

    def run(self) -> None:
        while not self.ended.is_set():
            self.keep_up(is_idle=True)
            wait = max(1, min(BRPOP_SECONDS, int(self.next_tick - time.monotonic()) + 1))
            taken = cast("list[str] | None", self.messages.brpop([self.entry.queue, self.entry.name], wait))
            if taken:
                self.work(taken[1])

    def keep_up(self, *, is_idle: bool) -> None:
        """What falls due while it waits or computes."""
        now = time.monotonic()
        if now >= self.next_tick:
            self.next_tick = now + self.config.beat_seconds
            self.reconciler.step(self.entry, is_idle=is_idle)
        if now >= self.next_event:
            self.next_event = now + EVENT_SECONDS
            self.client.publish("/0.celeryev/worker.heartbeat", EVENT)

    def work(self, message: str) -> None:
        """One shard, from its message to its acknowledgement."""
        book = keys.unacked(self.entry.name)
        tag = f"{self.number}-{time.monotonic_ns()}"
        pipe = self.client.pipeline()
        pipe.zadd(book["unacked_index_key"], {tag: time.time()}).hset(book["unacked_key"], tag, message)
        pipe.execute()
        job_id, index, *_ = json.loads(message)
        manifest = CheckpointManifest(self.client, job_id)
        shard = Shard(job_id, int(index), NUM_RECORDS, 0, 0, "")
        lease = manifest.acquire(shard, owner=self.entry.owner, floor=0, attempt_limit=20)
        if isinstance(lease, Lease):
            self.compute(manifest, lease)
        deal_to(self.client, self.app, self.entry)
        for _ in range(3):  # task-received, task-started, task-succeeded
            self.client.publish("/0.celeryev/task.multi", EVENT)
        pipe = self.client.pipeline()
        pipe.zrem(book["unacked_index_key"], tag).hdel(book["unacked_key"], tag)
        pipe.execute()

    def compute(self, manifest: CheckpointManifest, lease: Lease) -> None:
        share = 1.0 if self.num_done else self.first_share
        until = time.monotonic() + self.shard_seconds * share
        while (left := until - time.monotonic()) > 0:
            manifest.beat(lease, Progress(1, 1, 0, 0.1))
            self.ended.wait(min(left, self.config.beat_seconds))
            self.keep_up(is_idle=False)
        manifest.complete(lease, Progress(2, NUM_RECORDS, 0, 1.0))
        self.num_done += 1


def main() -> None:
    url, first, count, seconds, shard_seconds = sys.argv[1], *map(float, sys.argv[2:])
    threading.stack_size(256 << 10)
    ended = threading.Event()
    workers = [
        PretendedWorker(url, number, shard_seconds, ended) for number in range(int(first), int(first + count))
    ]
    threads = [threading.Thread(target=worker.run, daemon=True) for worker in workers]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    ended.set()
    print(json.dumps({"done": sum(worker.num_done for worker in workers), "host": socket.gethostname()}))


if __name__ == "__main__":
    main()
