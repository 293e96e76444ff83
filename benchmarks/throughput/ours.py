"""Holdfast as a library: the planned batches put through its model, and nothing else."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks.throughput.rounds import Vectors
from gpu_tasks import AsyncInferenceRunner
from gpu_tasks.inference.batch_plan import BatchPlan
from gpu_tasks.inference.model import Dtype, EmbeddingModel
from gpu_tasks.inference.plan_batches import plan_batches
from gpu_tasks.inference.rows import Ordinals
from gpu_tasks.models.loading import load
from queue_app.ingest.cut_shards import cut, default_num_shards, shard_cost_most, tapering_sizes
from queue_app.ingest.open_dataset import token_budget
from queue_app.job.spec import RECORD_COST
from queue_app.model.reader import find_model


@dataclass(frozen=True, slots=True, eq=False)
class Ours:
    """A loaded model with the token budget that `holdfast embed` would choose for it."""

    model: EmbeddingModel
    budget: int

    @classmethod
    def load(cls, path: Path, *, dtype: Dtype, device: str = "cpu", threads: int | None = None) -> "Ours":
        found = find_model(str(path))
        budget = token_budget("cpu" if device == "cpu" else "cuda", dtype, found.spec.num_parameters)
        model = load(found.spec, found.tokenizer, device=device, dtype=dtype, threads=threads)
        return cls(model, budget)

    def plan(self, sequences: Sequence[str], first_ordinal: int = 0) -> BatchPlan:
        """Long texts are cut, as sentence-transformers cuts them: all systems compute the same tokens."""
        return plan_batches(
            self.model.tokenize(sequences),
            range(first_ordinal, first_ordinal + len(sequences)),
            prefix=self.model.prefix,
            suffix=self.model.suffix,
            toks_per_batch=self.budget,
            max_length=self.model.max_length,
            long="truncate",
            window_overlap=0,
        )

    def embed(self, sequences: Sequence[str]) -> Vectors:
        """Through the bare loop."""
        plan = self.plan(sequences)
        return in_order(bare_loop(self.model, plan), len(sequences), self.model.dim)

    def embed_by_runner(
        self, sequences: Sequence[str], runner: AsyncInferenceRunner | None = None
    ) -> Vectors:
        """Through the runner, which overlaps the copies with the computing."""
        results = (runner or AsyncInferenceRunner(self.model)).run(self.plan(sequences))
        rows = ((result.ordinals, result.embeddings) for result in results)
        return in_order(rows, len(sequences), self.model.dim)


def bare_loop(model: EmbeddingModel, plan: BatchPlan) -> Iterator[tuple[Ordinals, Vectors]]:
    """The least that yields all vectors of a plan."""
    for index in range(plan.num_batches):
        batch = plan.batch(index)
        yield batch.ordinals, model.stage(batch).launch("float32").wait().embeddings


def in_order(rows: Iterable[tuple[Ordinals, Vectors]], num_sequences: int, dim: int) -> Vectors:
    vectors = np.full((num_sequences, dim), np.nan, np.float32)
    for ordinals, embeddings in rows:
        vectors[ordinals.astype(np.int64)] = embeddings
    return vectors


def lengths_of(plan: BatchPlan) -> list[int]:
    """Tokens of each segment, special tokens included."""
    batches = map(plan.batch, range(plan.num_batches))
    return [int(length) for batch in batches for length in np.diff(batch.cu_seqlens)]


def shard_bounds(sequences: Sequence[str]) -> list[int]:
    """Where `holdfast embed` would cut these into shards."""
    costs = np.array([len(sequence) + RECORD_COST for sequence in sequences])
    num_shards = default_num_shards(costs, shard_cost_most("cpu", 0))
    return cut(costs, tapering_sizes(num_shards, len(costs)))


def fill_in_shards(ours: Ours, sequences: Sequence[str]) -> tuple[int, float]:
    """How many shards a job would cut these into, and their fill: each has a last batch of its own."""
    plans = [ours.plan(sequences[first:last]) for first, last in pairwise(shard_bounds(sequences))]
    room = sum(plan.num_batches * plan.toks_per_batch for plan in plans)
    return len(plans), sum(plan.num_tokens for plan in plans) / room
