"""How much of the model's speed reaches the user, and where the time until the first batch goes.

    python benchmarks/end_to_end.py [--rounds N] [--fasta FILE]

Rate: `holdfast embed` with one CPU worker, from the end of its first shard to the end of its last, over a
bare loop in one process that puts the same planned batches through the same model with the same number
of threads and does nothing else. Both run by turns, so that the machine's moods hit both.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from gpu_tasks import load_model
from gpu_tasks.batching import BatchPlan, plan_batches
from gpu_tasks.models import EmbeddingModel
from queue_app.job import Job, JobDir
from queue_app.shards import read_shard

ROOT = Path(__file__).resolve().parent.parent
HOLDFAST = Path(sys.executable).with_name("holdfast")
EXAMPLE = ROOT / "examples" / "proteins.fasta.gz"
console = Console(highlight=False)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--fasta", type=Path, default=EXAMPLE)
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as scratch:
        home = Path(scratch)
        rate(chosen.fasta, home, chosen.rounds)
        start_up(home, chosen.rounds)
        commands(home, chosen.rounds)


def esm2(home: Path) -> Path:
    """ESM-2 8M as published, with random weights: the arithmetic is the same."""
    from transformers import EsmConfig, EsmModel

    config = EsmConfig(
        vocab_size=33, pad_token_id=1, mask_token_id=32, hidden_size=320, num_hidden_layers=6,
        num_attention_heads=20, intermediate_size=1280, max_position_embeddings=1026,
        position_embedding_type="rotary", emb_layer_norm_before=False, token_dropout=True,
    )  # fmt: skip
    EsmModel(config, add_pooling_layer=False).save_pretrained(home / "esm2")
    return home / "esm2"


# ---- the rate


def rate(fasta: Path, home: Path, rounds: int) -> None:
    model_path = esm2(home)
    embedded, bare = [], []
    for number in range(rounds):
        job_dir = embed(fasta, str(model_path), home / f"rate_{number}.npy")
        job = job_dir.load()
        embedded.append(embed_rate(job, job_dir))
        bare.append(bare_rate(job, job_dir))
    ratios = [ours / theirs for ours, theirs in zip(embedded, bare, strict=True)]
    table = Table(title=f"ESM-2 8M, float32, {job.threads} threads, {job.counts.num_records:,} proteins")
    for column in ("round", "embed tokens/s", "bare loop tokens/s", "ratio"):
        table.add_column(column, justify="right")
    for number, row in enumerate(zip(embedded, bare, ratios, strict=True), start=1):
        table.add_row(str(number), f"{row[0]:,.0f}", f"{row[1]:,.0f}", f"{row[2]:.3f}")
    table.add_row("median", f"{median(embedded):,.0f}", f"{median(bare):,.0f}", f"{median(ratios):.3f}")
    console.print(table)


def embed(fasta: Path, model: str, output: Path) -> JobDir:
    options = ["--device", "cpu", "--workers", "1", "--quiet"]
    subprocess.run(
        [HOLDFAST, "embed", fasta, "-m", model, "-o", output, *options],
        check=True, env=environment(), stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return JobDir(output.with_name(output.name + ".holdfast"))


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}


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
    model = load_model(job.model.path, dtype=job.options.dtype, pool=job.options.pool, threads=job.threads)
    plans = [plan_of(job, job_dir, model, shard.index) for shard in job.shards]
    run(model, plans[0])
    started = time.perf_counter()
    for plan in plans[1:]:
        run(model, plan)
    seconds = time.perf_counter() - started
    return sum(num_tokens(job, job_dir, shard.index) for shard in job.shards[1:]) / seconds


def plan_of(job: Job, job_dir: JobDir, model: EmbeddingModel, index: int) -> BatchPlan:
    shard, options = job.shards[index], job.options
    return plan_batches(
        model.tokenize(read_shard(job_dir.shard(index), shard).sequences),
        range(shard.first_ordinal, shard.first_ordinal + shard.num_records),
        prefix=model.prefix,
        suffix=model.suffix,
        toks_per_batch=options.toks_per_batch,
        max_length=options.max_length,
        long=options.long,
        window_overlap=options.window_overlap,
    )


def run(model: EmbeddingModel, plan: BatchPlan) -> None:
    for index in range(plan.num_batches):
        model.stage(plan.batch(index)).launch("float32").wait()


# ---- until the first batch


def start_up(home: Path, rounds: int) -> None:
    """From the command to the first batch of the mock model, step by step."""
    steps: dict[str, list[float]] = {}
    for number in range(rounds):
        started = time.time()
        job_dir = embed(EXAMPLE, "mock:16", home / f"start_{number}.npy")
        for name, seconds in moments(job_dir, started).items():
            steps.setdefault(name, []).append(seconds)
    table = Table(title="Command to first batch, mock model (medians)")
    table.add_column("until")
    table.add_column("seconds", justify="right")
    for name, seconds in steps.items():
        table.add_row(name, f"{median(seconds):.2f}")
    console.print(table)


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


def commands(home: Path, rounds: int) -> None:
    """Commands that must answer at once."""
    table = Table(title="Commands (medians)")
    table.add_column("command")
    table.add_column("seconds", justify="right")
    for command in (["--help"], ["embed", "--help"], ["status", str(home / "start_0.npy")]):
        seconds = []
        for _ in range(2 * rounds + 1):
            started = time.perf_counter()
            subprocess.run([HOLDFAST, *command], check=True, stdout=subprocess.DEVNULL, env=environment())
            seconds.append(time.perf_counter() - started)
        table.add_row(" ".join(["holdfast", *command]).replace(str(home), "…"), f"{median(seconds):.2f}")
    console.print(table)


if __name__ == "__main__":
    main()
