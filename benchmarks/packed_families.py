"""What packing brings to models that transformers computes, beside padding as others and Holdfast did it.

    python -m benchmarks.packed_families [--models NAME ...] [--layers N] [--records N] [--dtype D]
                                         [--threads N] [--rounds N] [--report FILE.md]

Published widths, random weights and the first few layers: what the tokens between them cost is the same in
each layer. Proteins and texts are real ones. The systems take turns within a round, and their vectors are
held against each other: one with wrong vectors is refused. A ratio is the median over the rounds.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.common import corpora
from benchmarks.common.checkout import command_line
from benchmarks.common.machine import describe_machine
from benchmarks.common.tables import as_markdown, table_with
from benchmarks.throughput.bench import MINILM
from benchmarks.throughput.ours import Ours
from benchmarks.throughput.padded import automodel, in_batches_of, sentence_transformers
from benchmarks.throughput.rounds import Outcome, System, compare, ratios
from gpu_tasks.models.loading import load
from queue_app.model.reader import find_model

BATCH, LONGEST = 32, 1024
console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)


@dataclass(frozen=True, slots=True)
class Shape:
    """A model type with its published numbers, and what it is given."""

    kind: str
    fields: dict[str, Any]
    records: Callable[[int], corpora.Corpus]


SHAPES = {
    # https://huggingface.co/biohub/ESMC-300M
    "ESM-C 300M": Shape(
        "esmc", {"hidden_size": 960, "num_attention_heads": 15, "intermediate_size": 2560}, corpora.proteins
    ),
    # https://huggingface.co/answerdotai/ModernBERT-base
    "ModernBERT-base": Shape(
        "modernbert",
        {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 1152},
        corpora.texts,
    ),
    # https://huggingface.co/Qwen/Qwen3-Embedding-0.6B
    "Qwen3-0.6B": Shape(
        "qwen3",
        {
            "hidden_size": 1024, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
            "intermediate_size": 3072,
        },
        corpora.texts,
    ),
    # https://huggingface.co/google/embeddinggemma-300m
    "EmbeddingGemma": Shape(
        "gemma3_text",
        {
            "hidden_size": 768, "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 256,
            "intermediate_size": 1152, "sliding_window": 512, "use_bidirectional_attention": True,
        },
        corpora.texts,
    ),
    # https://huggingface.co/distilbert/distilbert-base-uncased
    "DistilBERT": Shape("distilbert", {"dim": 768, "n_heads": 12, "hidden_dim": 3072}, corpora.texts),
}  # fmt: skip


def main() -> None:
    chosen = arguments().parse_args()
    torch.set_num_threads(chosen.threads)
    tables = []
    for name in chosen.models or SHAPES:
        with tempfile.TemporaryDirectory(prefix="holdfast-packed-") as scratch:
            tables.append(measure(name, Path(scratch), chosen))
        console.print(tables[-1])
    if chosen.report:
        chosen.report.write_text(report(tables, chosen))


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=SHAPES)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--records", type=int, default=256)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--report", type=Path, help="write the tables there, as markdown")
    return parser


def measure(name: str, scratch: Path, chosen: argparse.Namespace) -> Table:
    shape = SHAPES[name]
    corpus = shape.records(chosen.records)
    directory = make(shape, scratch, chosen.layers)
    outcomes = compare(systems(directory, chosen), corpus.sequences, chosen.rounds)
    title = f"{name}, {chosen.layers} layers, {chosen.dtype}, {corpus.name} of {corpus.source}"
    return table_of(title, outcomes, len(corpus.sequences))


def make(shape: Shape, directory: Path, num_layers: int) -> Path:
    """A directory of sentence-transformers: the mean, normalized."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers import AutoConfig, AutoModel, AutoTokenizer, EsmcTokenizer

    of_proteins = shape.kind == "esmc"
    tokenizer = EsmcTokenizer() if of_proteins else AutoTokenizer.from_pretrained(str(MINILM))
    tokenizer.model_max_length = LONGEST
    layers = "n_layers" if shape.kind == "distilbert" else "num_hidden_layers"
    ids = {} if of_proteins else {"vocab_size": len(tokenizer), "pad_token_id": 0, "bos_token_id": 101}
    ids |= {} if of_proteins else {"eos_token_id": 102, "cls_token_id": 101, "sep_token_id": 102}
    config = AutoConfig.for_model(
        shape.kind, **{**ids, "max_position_embeddings": LONGEST, layers: num_layers, **shape.fields}
    )
    torch.manual_seed(0)
    plain = directory / "plain"
    AutoModel.from_config(config).save_pretrained(plain)
    tokenizer.save_pretrained(plain)
    transformer = Transformer(str(plain))
    pooling = Pooling(transformer.get_embedding_dimension(), pooling_mode="mean")
    model = SentenceTransformer(modules=[transformer, pooling, Normalize()], device="cpu")
    model.save(str(directory / "sentences"), create_model_card=False)
    return directory / "sentences"


def systems(directory: Path, chosen: argparse.Namespace) -> list[System]:
    """Ours first: the others are held against its vectors."""
    packed = Ours.load(directory, dtype=chosen.dtype, threads=chosen.threads)
    found = find_model(str(directory))
    before = load(
        replace(found.spec, packs=False), found.tokenizer, dtype=chosen.dtype, threads=chosen.threads
    )
    as_they_come = in_batches_of(BATCH, by_length=False)
    return [
        System("Holdfast, packed", chosen.dtype, packed.embed, ours=True),
        System("Holdfast, padded as before", chosen.dtype, replace(packed, model=before).embed),
        sentence_transformers(directory, chosen.dtype),
        automodel(
            directory, chosen.dtype, f"transformers, {BATCH} as they come", as_they_come, max_length=LONGEST
        ),
    ]


def table_of(title: str, outcomes: list[Outcome], num_records: int) -> Table:
    table = table_with(title, "system", "records/s", "packed is faster by", "least", "most", "least cosine")
    ours = outcomes[0]
    for each in outcomes:
        rate = num_records / min(each.seconds)
        times = ratios(ours, each)
        shown = ["refused"] * 3 if each.refused else [f"{f(times):.2f}" for f in (median, min, max)]
        table.add_row(each.system.name, f"{rate:.1f}", *shown, f"{each.cosine:.6f}")
    return table


def report(tables: list[Table], chosen: argparse.Namespace) -> str:
    facts = "\n".join(f"- {fact}" for fact in describe_machine("cpu", chosen.threads))
    parts = ["# Packed families", "", f"`{command_line()}`", "", facts, "", *map(as_markdown, tables)]
    return "\n".join(parts)


if __name__ == "__main__":
    main()
