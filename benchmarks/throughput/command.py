"""`holdfast embed` as a user runs it: its steady rate, the time until its first batch, quick commands."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from benchmarks.throughput.ours import bare_loop
from gpu_tasks.inference.batch_plan import BatchPlan
from gpu_tasks.inference.model import EmbeddingModel
from gpu_tasks.inference.plan_batches import plan_batches
from gpu_tasks.shard.job_model import load_job_model
from queue_app.job.directory import JobDir
from queue_app.job.shard_files import read_shard
from queue_app.job.spec import Job

HOLDFAST = Path(sys.executable).with_name("holdfast")
OPTIONS = ("--device", "cpu", "--workers", "1", "--quiet")


def embed_command(source: Path, model: str, output: Path) -> list[str]:
    return [str(HOLDFAST), "embed", str(source), "-m", model, "-o", str(output), *OPTIONS]


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}


def job_directory(output: Path) -> JobDir:
    return JobDir(output.with_name(output.name + ".holdfast"))


def embed(source: Path, model: str, output: Path) -> JobDir:
    command = embed_command(source, model, output)
    subprocess.run(command, check=True, env=environment(), stdout=subprocess.DEVNULL)
    return job_directory(output)


# ---- the rate


@dataclass(slots=True)
class SteadyRate:
    """Residues per second of each round."""

    num_threads: int = 0
    embedded: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        return [ours / theirs for ours, theirs in zip(self.embedded, self.bare, strict=True)]


def steady_rate(home: Path, source: Path, model_path: Path, rounds: int) -> SteadyRate:
    """`embed` with one CPU worker over a bare loop with the same batches and threads, by turns."""
    found = SteadyRate()
    for number in range(rounds):
        job_dir = embed(source, str(model_path), home / f"rate_{number}.npy")
        job = job_dir.load()
        found.num_threads = job.threads
        found.embedded.append(embed_rate(job, job_dir))
        found.bare.append(bare_rate(job, job_dir))
    return found


def embed_rate(job: Job, job_dir: JobDir) -> float:
    """Residues per second between the ends of the first and the last shard."""
    ended = sorted((job_dir.done(shard.index).stat().st_mtime, shard.index) for shard in job.shards)
    first, last = ended[0], ended[-1]
    tokens = sum(num_tokens(job, job_dir, index) for _, index in ended[1:])
    return tokens / (last[0] - first[0])


def num_tokens(job: Job, job_dir: JobDir, index: int) -> int:
    return sum(map(len, read_shard(job_dir.shard(index), job.shards[index]).sequences))


def bare_rate(job: Job, job_dir: JobDir) -> float:
    """Residues per second of the model alone, over the batches of all shards but the first."""
    model = load_job_model(job, job_dir, device="cpu", dtype=job.options.dtype, threads=job.threads)
    plans = [plan_of(job, job_dir, model, shard.index) for shard in job.shards]
    run(model, plans[0])
    started = time.perf_counter()
    for plan in plans[1:]:
        run(model, plan)
    seconds = time.perf_counter() - started
    return sum(num_tokens(job, job_dir, shard.index) for shard in job.shards[1:]) / seconds


def plan_of(job: Job, job_dir: JobDir, model: EmbeddingModel, index: int) -> BatchPlan:
    records, options = read_shard(job_dir.shard(index), job.shards[index]), job.options
    return plan_batches(
        model.tokenize(records.sequences),
        records.ordinals,
        prefix=model.prefix,
        suffix=model.suffix,
        toks_per_batch=options.toks_per_batch,
        max_length=options.max_length,
        long=options.long,
        window_overlap=options.window_overlap,
    )


def run(model: EmbeddingModel, plan: BatchPlan) -> None:
    for _ in bare_loop(model, plan):
        pass


# ---- until the first batch


Steps = dict[str, list[float]]
"""Seconds of each round, by name."""


def start_up(home: Path, source: Path, rounds: int) -> Steps:
    """From the command to the first batch of the mock model, step by step."""
    steps: Steps = {}
    for number in range(rounds):
        started = time.time()
        job_dir = embed(source, "mock:16", home / f"start_{number}.npy")
        for name, seconds in moments(job_dir, started).items():
            steps.setdefault(name, []).append(seconds)
    return steps


def moments(job_dir: JobDir, started: float) -> dict[str, float]:
    """When each step was over, in seconds after the command."""
    log = (job_dir.logs / "cpu0.log").read_text()
    return {
        "imports done, job directory locked": (job_dir.path / "lock").stat().st_mtime - started,
        "server up, worker process started": job_dir.logs.stat().st_mtime - started,
        "input read, shards written": job_dir.job_json.stat().st_mtime - started,
        "worker ready": logged(log, "ready.") - started,
        "first task received": logged(log, "received") - started,
        "model loaded": logged(log, "model loaded") - started,
        "first batch begins": logged(log, "computing") - started,
    }


def logged(log: str, text: str) -> float:
    """When the first line with this text was logged, as seconds since the epoch."""
    stamp = re.search(rf"^\[([\d-]+ [\d:]+),(\d+): [^\n]*{re.escape(text)}", log, re.MULTILINE)
    assert stamp, text
    return datetime.fromisoformat(stamp[1]).timestamp() + int(stamp[2]) / 1000


def quick_commands(home: Path, times: int) -> Steps:
    """Commands that must answer at once; the last one asks for the first job of `start_up`."""
    asked = (["--help"], ["embed", "--help"], ["status", str(home / "start_0.npy")])
    shown = (" ".join(["holdfast", *command]).replace(str(home), "…") for command in asked)
    return {name: [answer(command) for _ in range(times)] for name, command in zip(shown, asked, strict=True)}


def answer(command: Sequence[str]) -> float:
    started = time.perf_counter()
    subprocess.run([HOLDFAST, *command], check=True, stdout=subprocess.DEVNULL, env=environment())
    return time.perf_counter() - started
