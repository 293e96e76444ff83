"""T5's encoder on packed tokens beside transformers on padded ones, on mixed lengths of proteins.

    python -m benchmarks.t5_packed [--shape NAME] [--layers N] [--sequences N] [--rounds N] [--threads N]
                                   [--device cpu|cuda] [--dtype D] [--report FILE.md]

Published widths, few layers and random weights: of more layers each costs the same. Both take turns within a
round and get the same ids. transformers gets batches of 32 rows, sorted by length, as sentence-transformers
makes them. A rate is the best of the rounds; the vectors of both are compared.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table
from transformers import T5Config, T5EncoderModel

from benchmarks.common.checkout import command_line
from benchmarks.common.machine import describe_machine
from benchmarks.common.tables import as_markdown, table_with
from benchmarks.token_budgets import draw_lengths
from gpu_tasks import load_model
from gpu_tasks.inference.batch_plan import BatchPlan
from gpu_tasks.inference.model import EmbeddingModel
from gpu_tasks.inference.plan_batches import plan_batches
from tests.zoo.vocabularies import write_unigram

Vectors = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int32]

PROTT5_XL: dict[str, Any] = {"d_model": 1024, "d_kv": 128, "d_ff": 16384, "num_heads": 32}
SHAPES: dict[str, dict[str, Any]] = {
    "prott5-xl": PROTT5_XL,
    "prott5-half": {"d_model": 512, "d_kv": 128, "d_ff": 8192, "num_heads": 16},
    "ankh-large": {
        "d_model": 1536, "d_kv": 64, "d_ff": 3840, "num_heads": 16, "feed_forward_proj": "gated-gelu",
        "relative_attention_num_buckets": 64,
    },
}  # fmt: skip
"""https://huggingface.co/Rostlab/prot_t5_xl_uniref50, a half of it, https://huggingface.co/ElnaggarLab/ankh-large"""
MEAN_RESIDUES, LONGEST = 300, 2000
ROWS_PADDED = 32
TOKS_PER_BATCH = {"cpu": 2048, "cuda": 65_536}
console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)


def main() -> None:
    chosen = arguments().parse_args()
    torch.set_num_threads(chosen.threads)
    with tempfile.TemporaryDirectory(prefix="holdfast-t5-") as scratch:
        table = measure(save_model(Path(scratch), chosen), chosen)
    console.print(table)
    if chosen.report:
        facts = "\n".join(f"- {fact}" for fact in describe_machine(chosen.device, chosen.threads))
        title, command = "# T5, packed and padded", f"`{command_line()}`"
        chosen.report.write_text("\n".join([title, "", command, "", facts, "", as_markdown(table)]))


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="prott5-half")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--sequences", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--report", type=Path, help="write the table there, as markdown")
    return parser


def save_model(directory: Path, chosen: argparse.Namespace) -> Path:
    """Of this shape, with random weights and a token for each residue."""
    num = write_unigram(directory, [f"▁{letter}" for letter in "ALGVSREDTIPKFQNYMHWCXBOUZ"], blanks=True)
    torch.manual_seed(0)
    config = T5Config(vocab_size=num, num_layers=chosen.layers, **SHAPES[chosen.shape])
    T5EncoderModel(config).save_pretrained(directory)
    return directory


# ---- measuring


def measure(directory: Path, chosen: argparse.Namespace) -> Table:
    lengths, random = draw_lengths(MEAN_RESIDUES, LONGEST, MEAN_RESIDUES * chosen.sequences), np.random
    ids = [random.default_rng(seed).integers(3, 23, n, dtype=np.int32) for seed, n in enumerate(lengths)]
    model = load_model(str(directory), device=chosen.device, dtype=chosen.dtype)
    plan = plan_of(ids, model, TOKS_PER_BATCH[chosen.device.partition(":")[0]])
    theirs = T5EncoderModel.from_pretrained(directory, dtype=getattr(torch, chosen.dtype))
    theirs = theirs.to(chosen.device).eval()
    systems: dict[str, tuple[float, Callable[[], Vectors]]] = {
        f"transformers, padded, {ROWS_PADDED} rows": (fill_of(ids), lambda: padded(theirs, ids)),
        "Holdfast, packed": (1.0, lambda: packed(model, plan)),
    }
    found = {name: embed() for name, (_, embed) in systems.items()}
    seconds = dict.fromkeys(systems, float("inf"))
    for _ in range(chosen.rounds):
        for name, (_, embed) in systems.items():
            started = time.perf_counter()
            embed()
            seconds[name] = min(seconds[name], time.perf_counter() - started)
    return table_of(chosen, sum(lengths), {name: fill for name, (fill, _) in systems.items()}, seconds, found)


def plan_of(ids: list[Ids], model: EmbeddingModel, budget: int) -> BatchPlan:
    return plan_batches(
        ids, range(len(ids)), prefix=model.prefix, suffix=model.suffix, toks_per_batch=budget,
        max_length=model.max_length, long="window", window_overlap=0,
    )  # fmt: skip


def packed(model: EmbeddingModel, plan: BatchPlan) -> Vectors:
    waiting, ordinals, rows = [], list[int](), list[Vectors]()
    for batch_idx in range(plan.num_batches):
        batch = plan.batch(batch_idx)
        ordinals += batch.ordinals.tolist()
        waiting.append(model.stage(batch).launch("float32"))
        if len(waiting) > model.lookahead:
            rows.append(waiting.pop(0).wait().embeddings)
    rows += [pending.wait().embeddings for pending in waiting]
    return np.concatenate(rows)[np.argsort(ordinals)]


def sorted_batches(ids: list[Ids]) -> Iterable[list[int]]:
    order = sorted(range(len(ids)), key=lambda row: -len(ids[row]))
    return (order[first : first + ROWS_PADDED] for first in range(0, len(order), ROWS_PADDED))


def fill_of(ids: list[Ids]) -> float:
    """The share of tokens in what is computed."""
    batches = [[len(ids[row]) + 1 for row in rows] for rows in sorted_batches(ids)]
    return sum(map(sum, batches)) / sum(max(rows) * len(rows) for rows in batches)


@torch.inference_mode()
def padded(model: Any, ids: list[Ids]) -> Vectors:
    vectors = np.empty((len(ids), model.config.d_model), np.float32)
    for rows in sorted_batches(ids):
        longest = max(len(ids[row]) for row in rows) + 1
        inputs = torch.zeros(len(rows), longest, dtype=torch.int64)
        for place, row in enumerate(rows):
            inputs[place, : len(ids[row])], inputs[place, len(ids[row])] = torch.from_numpy(ids[row]), 1
        inputs = inputs.to(model.device)
        hidden = model(input_ids=inputs, attention_mask=(inputs != 0).long()).last_hidden_state.float()
        inside = (inputs > 1)[:, :, None]
        vectors[rows] = ((hidden * inside).sum(dim=1) / inside.sum(dim=1)).cpu().numpy()
    return vectors


def table_of(
    chosen: argparse.Namespace,
    num_tokens: int,
    fills: dict[str, float],
    seconds: dict[str, float],
    found: dict[str, Vectors],
) -> Table:
    slowest = max(seconds.values())
    expected = next(iter(found.values()))
    title = f"{chosen.shape}, {chosen.layers} layers, {chosen.dtype}, {chosen.sequences:,} proteins"
    table = table_with(title, "system", "tokens/s", "beside the slower", "fill", "apart at most")
    for name, taken in seconds.items():
        apart = np.linalg.norm(found[name] - expected, axis=1) / np.linalg.norm(expected, axis=1)
        cells = (
            f"{num_tokens / taken:,.0f}",
            f"{slowest / taken:.2f}",
            f"{fills[name]:.2f}",
            f"{apart.max():.1e}",
        )
        table.add_row(name, *cells)
    return table


if __name__ == "__main__":
    main()
