"""Which token budget a device wants for a model: the table in queue_app/ingest/request.py is made from this.

    python -m benchmarks.token_budgets [--device cpu|cuda] [--dtype D] [--models NAME ...] [--budgets N ...]
                                       [--threads N] [--rounds N] [--seconds S] [--report FILE.md]

MiniLM is the real one, ESM-2 has the published shapes and random weights. Budgets take turns within a
round, so that the machine's moods hit all of them; a rate is the median over the rounds. `wanted` is the
smallest budget within 2 % of the best rate: a batch is what a crash costs, and what a device must hold.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.common.checkout import command_line
from benchmarks.common.esm2_shapes import SHAPES, esm2
from benchmarks.common.machine import describe_machine
from benchmarks.common.tables import as_markdown, table_with
from benchmarks.throughput.bench import MINILM
from gpu_tasks import load_model
from gpu_tasks.errors import OutOfMemory
from gpu_tasks.inference.batch_plan import BatchPlan
from gpu_tasks.inference.model import EmbeddingModel
from gpu_tasks.inference.plan_batches import plan_batches

GOOD_ENOUGH = 0.98
BUDGETS = {"cpu": (256, 512, 1024, 2048, 4096, 8192), "cuda": (4096, 8192, 16_384, 32_768, 65_536, 131_072)}
DTYPES = {"cpu": "float32", "cuda": "bfloat16"}
console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)


TEXT = "MiniLM"
MODELS = (TEXT, *SHAPES)
USUAL = {"cpu": (TEXT, "8M", "35M"), "cuda": (TEXT, "8M", "35M", "150M", "650M", "3B")}
MEAN_TOKENS = {TEXT: 52}
MEAN_RESIDUES = 300


@dataclass(slots=True)
class Measured:
    """Of one model and budget: tokens per second and round. Empty rates: it did not fit in memory."""

    fill: float
    rates: list[float] = field(default_factory=list)
    peak_bytes: int = 0

    @property
    def rate(self) -> float:
        return median(self.rates) if self.rates else 0.0


def main() -> None:
    chosen = arguments().parse_args()
    kind = chosen.device.partition(":")[0]
    tables = []
    for name in chosen.models or USUAL[kind]:
        found = measure(name, chosen, chosen.budgets or BUDGETS[kind])
        tables.append(table_of(name, found))
        console.print(tables[-1])
    if chosen.report:
        chosen.report.write_text(report(tables, chosen))


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", help="default: float32 on the CPU, bfloat16 elsewhere")
    parser.add_argument("--models", nargs="+", choices=MODELS)
    parser.add_argument("--budgets", nargs="+", type=int)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="on the CPU")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of computing, per budget and round")
    parser.add_argument("--report", type=Path, help="write the tables there, as markdown")
    return parser


# ---- measuring


def measure(name: str, chosen: argparse.Namespace, budgets: tuple[int, ...]) -> dict[int, Measured]:
    dtype = chosen.dtype or DTYPES[chosen.device.partition(":")[0]]
    with tempfile.TemporaryDirectory(prefix="holdfast-calibrate-") as scratch:
        path = MINILM if name == TEXT else esm2(Path(scratch), name, dtype=dtype, device=chosen.device)
        model = load_model(str(path), device=chosen.device, dtype=dtype, threads=chosen.threads)
    lengths = draw_lengths(MEAN_TOKENS.get(name, MEAN_RESIDUES), model.max_length, 20 * max(budgets))
    plans = {budget: plan_of(lengths, model, budget) for budget in budgets}
    found = {budget: Measured(plan.fill) for budget, plan in plans.items()}
    for number in range(chosen.rounds + 1):
        for budget, plan in plans.items():
            rate = tokens_per_second(model, plan, chosen.seconds, found[budget])
            if number and rate:  # the first round warms caches and kernels
                found[budget].rates.append(rate)
    return found


def draw_lengths(mean: int, longest: int, num_tokens: int) -> list[int]:
    """Log-normal, as those of proteins and sentences are."""
    spread = 0.6
    drawn = np.random.default_rng(0).lognormal(np.log(mean) - spread**2 / 2, spread, num_tokens // mean)
    lengths: list[int] = np.clip(drawn, 4, longest).astype(int).tolist()
    return lengths


def plan_of(lengths: list[int], model: EmbeddingModel, budget: int) -> BatchPlan:
    random = np.random.default_rng(1)
    return plan_batches(
        [random.integers(5, 24, length, dtype=np.int32) for length in lengths],
        range(len(lengths)),
        prefix=model.prefix, suffix=model.suffix, toks_per_batch=budget,
        max_length=model.max_length, long="window", window_overlap=0,
    )  # fmt: skip


def tokens_per_second(model: EmbeddingModel, plan: BatchPlan, seconds: float, into: Measured) -> float:
    """Of batches from all over the plan, for about so long. 0: a batch did not fit."""
    on_cuda = torch.cuda.is_available() and model.lookahead > 0
    if on_cuda:
        torch.cuda.reset_peak_memory_stats()
    num_tokens, started, waiting = 0, time.perf_counter(), []
    try:
        for batch_idx in scattered(plan.num_batches):
            batch = plan.batch(batch_idx)
            waiting.append(model.stage(batch).launch("float32"))
            num_tokens += len(batch.input_ids)
            if len(waiting) > model.lookahead:
                waiting.pop(0).wait()
            if time.perf_counter() - started > seconds:
                break
        for pending in waiting:
            pending.wait()
    except OutOfMemory:
        return 0.0
    elapsed = time.perf_counter() - started
    if on_cuda:
        into.peak_bytes = max(into.peak_bytes, torch.cuda.max_memory_allocated())
    return num_tokens / elapsed


def scattered(count: int) -> Iterator[int]:
    """All indices, long and short rows alike from the start: steps of about the golden section."""
    step = max(1, round(count * 0.618))
    while np.gcd(step, count) != 1:
        step += 1
    return (number * step % count for number in range(count))


# ---- tables


def table_of(name: str, found: dict[int, Measured]) -> Table:
    best = max(measured.rate for measured in found.values())
    wanted = min((budget for budget, each in found.items() if each.rate >= GOOD_ENOUGH * best), default=0)
    table = table_with(name, "budget", "of the best", "least", "most", "tokens/s", "fill", "peak GiB", "")
    for budget, each in found.items():
        if not each.rates:
            table.add_row(f"{budget:,}", "does not fit", *[""] * 6)
            continue
        shares = [rate / best for rate in (each.rate, min(each.rates), max(each.rates))]
        peak = f"{each.peak_bytes / 2**30:.1f}" if each.peak_bytes else ""
        table.add_row(
            f"{budget:,}", *(f"{share:.2f}" for share in shares), f"{each.rate:,.0f}", f"{each.fill:.3f}",
            peak, "wanted" if budget == wanted else "",
        )  # fmt: skip
    return table


def report(tables: list[Table], chosen: argparse.Namespace) -> str:
    facts = "\n".join(f"- {fact}" for fact in describe_machine(chosen.device, chosen.threads))
    return "\n".join(["# Token budgets", "", f"`{command_line()}`", "", facts, "", *map(as_markdown, tables)])


if __name__ == "__main__":
    main()
