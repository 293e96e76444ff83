"""What checkpointing costs inference: processor time, waiting, and memory over many commits."""

import functools
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from checkpoint import Block, CheckpointStore, CheckpointTrigger, CheckpointWriter
from checkpoint.crash_log import CrashLog
from gpu_tasks.shard import shard_run
from gpu_tasks.shard.job_model import load_job_model
from gpu_tasks.shard.plan_shard import plan_shard
from gpu_tasks.shard.shard_run import ShardRun
from queue_app.coordination.states import Lease
from queue_app.job.directory import JobDir
from queue_app.settings import RuntimeConfig

HOLDFAST = Path(sys.executable).with_name("holdfast")


@dataclass(slots=True)
class Cost:
    """Seconds over all shards of a job; `on_model_thread` is what the thread that drives the model spent on
    handing over blocks and on noting what is in flight."""

    wall: float = 0.0
    processor: float = 0.0
    commit_thread: float = 0.0
    on_model_thread: float = 0.0
    blocked: float = 0.0
    lag: float = 0.0
    num_commits: int = 0
    num_batches: int = 0

    @property
    def checkpointing(self) -> float:
        return self.commit_thread + self.on_model_thread

    @property
    def share(self) -> float:
        """Processor seconds of checkpointing over those of the model and all else."""
        return self.checkpointing / (self.processor - self.checkpointing)


class Stopwatch:
    """Adds up the processor time of the calling thread in the functions that it was put around."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def around(self, owner: Any, name: str) -> Callable[[], None]:
        """Answers what takes it off again."""
        function = getattr(owner, name)

        @functools.wraps(function)
        def timed(*arguments: Any, **options: Any) -> Any:
            started = time.thread_time()
            try:
                return function(*arguments, **options)
            finally:
                self.seconds += time.thread_time() - started

        setattr(owner, name, timed)
        return lambda: setattr(owner, name, function)


@dataclass(slots=True)
class Writers:
    """Notes every writer that a shard makes."""

    made: list[CheckpointWriter] = field(default_factory=list)

    def note(self) -> Callable[[], None]:
        begin = CheckpointWriter.__init__

        @functools.wraps(begin)
        def noted(writer: CheckpointWriter, *arguments: Any, **options: Any) -> None:
            begin(writer, *arguments, **options)
            self.made.append(writer)

        CheckpointWriter.__init__ = noted  # type: ignore[method-assign]
        return lambda: setattr(CheckpointWriter, "__init__", begin)


def cost_of_checkpoints(home: Path, fasta: Path, model_path: Path, dtype: str) -> Cost:
    """Every shard of a job once more in this process, in a store of its own, with the default interval."""
    job_dir = embed(fasta, model_path, home / "cost.npy", dtype)
    job = job_dir.load()
    model = load_job_model(job, job_dir, device="cpu", dtype=job.options.dtype, threads=job.threads)
    watch, writers, cost = Stopwatch(), Writers(), Cost()
    undo = [
        watch.around(CheckpointWriter, "put"),
        watch.around(shard_run, "as_block"),
        *(watch.around(CrashLog, name) for name in ("begin", "landed", "rest")),
        writers.note(),
    ]
    try:
        for shard in job.shards:
            config = RuntimeConfig(scratch=home / "scratch")
            lease = Lease(shard, 1 << 62)
            attempt = ShardRun(job, job_dir, lease, model, config, lambda: False)
            measure(attempt, cost)
    finally:
        for each in undo:
            each()
    cost.on_model_thread = watch.seconds
    for writer in writers.made:
        cost.commit_thread += writer.times.processor
        cost.blocked += writer.times.blocked
        cost.num_commits += writer.times.num_commits
        cost.lag = max(cost.lag, writer.times.lag)
    return cost


def measure(attempt: ShardRun, cost: Cost) -> None:
    """The computing of one shard, without its publication."""
    from queue_app.job.shard_files import read_shard

    records = read_shard(attempt.job_dir.shard(attempt.lease.shard.index), attempt.lease.shard)
    plan = plan_shard(attempt.job, attempt.model, records)
    digest = bytes.fromhex(attempt.job.digest)
    with CheckpointStore.open(
        attempt.store_path, job_digest=digest, plan=plan.fingerprint, token=attempt.lease.token
    ) as store:
        wall, processor = time.perf_counter(), time.process_time()
        attempt._compute(plan, records, store, num_rejected=0)
        cost.wall += time.perf_counter() - wall
        cost.processor += time.process_time() - processor
    cost.num_batches += plan.num_batches


def embed(fasta: Path, model_path: Path, output: Path, dtype: str) -> JobDir:
    options = ["--device", "cpu", "--workers", "1", "--dtype", dtype, "--quiet"]
    subprocess.run(
        [HOLDFAST, "embed", fasta, "-m", model_path, "-o", output, *options],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return JobDir(output.with_name(output.name + ".holdfast"))


# ---- memory


@dataclass(frozen=True, slots=True)
class Memory:
    """Megabytes of memory of its own (no file behind it) after so many commits."""

    num_commits: int
    megabytes: float


def memory_over_commits(home: Path, num_commits: int) -> list[Memory]:
    """Commits of one block of 64 rows each, from the commit thread."""
    vectors = np.random.default_rng(0).standard_normal((64, 320)).astype(np.float32)
    trigger = CheckpointTrigger(sequences=1)
    found: list[Memory] = []
    done: list[int] = []
    path = home / "memory"
    with (
        CheckpointStore.open(path, job_digest=bytes(16), plan="p", token=1) as store,
        CheckpointWriter(
            store, token=1, trigger=trigger, max_pending_bytes=vectors.nbytes, on_commit=done.extend
        ) as writer,
    ):
        for index in range(num_commits):
            ordinals = np.arange(64 * index, 64 * (index + 1), dtype=np.uint64)
            writer.put(Block(index, ordinals, vectors))
            if (index + 1) % (num_commits // 10) == 0:
                found.append(Memory(writer.times.num_commits, anonymous_megabytes()))
    shutil.rmtree(path)
    return found


def anonymous_megabytes() -> float:
    status = Path("/proc/self/status").read_text()
    match = re.search(r"RssAnon:\s+(\d+) kB", status)
    assert match, "the kernel does not tell"
    return int(match[1]) / 1024
