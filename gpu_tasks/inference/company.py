"""Does a vector depend on what is computed beside it? Found out on the device, in a job's own shapes.

A short, a middle and a long sequence are computed alone, in a full batch, and in another order in one that is
filled by half: bit by bit the same, or not. It takes about as long as three batches, once per worker and job.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gpu_tasks.inference.batch_plan import TokenBatch
from gpu_tasks.inference.canary import SEQUENCES
from gpu_tasks.inference.model import EmbeddingModel
from gpu_tasks.inference.rows import Int64s, Vectors, split_rows
from gpu_tasks.inference.segments import bounds_of

_SEED = 20
_SHORT, _MIDDLE = 3, 61
FILL = 0.98
"""Of the budget, as planned batches have it."""


def dependent_lengths(model: EmbeddingModel, *, budget: int, max_length: int) -> list[int]:
    """The lengths in tokens, special ones included, of the test sequences whose vectors are not the same in
    all companies; none, where a vector depends on none."""
    longest = min(max_length, model.max_length) + len(model.prefix) + len(model.suffix)
    random, row = np.random.default_rng(_SEED), _Rows(model)
    least = len(model.prefix) + len(model.suffix) + 1
    lengths = [max(least, min(length, longest)) for length in (_SHORT, _MIDDLE, budget // 3)]
    watched = [row.make(length, random) for length in lengths]
    alone = [_compute(model, [each])[0] for each in watched]
    companies = (
        _mates(row, least, longest, int(share * budget) - sum(lengths), random) for share in (FILL, FILL / 2)
    )
    found = set[int]()
    for mates in companies:
        rows = [*watched, *mates]
        order = sorted(range(len(rows)), key=lambda place: -len(rows[place]))  # as the planner does
        vectors = dict(zip(order, _compute(model, [rows[place] for place in order]), strict=True))
        found |= {
            length
            for place, length in enumerate(lengths)
            if vectors[place].tobytes() != alone[place].tobytes()
        }
    return sorted(found)


class _Rows:
    """Rows of tokens that the tokenizer makes of letters, with special tokens around them."""

    def __init__(self, model: EmbeddingModel) -> None:
        self._model = model
        self._ids = np.concatenate([np.zeros(0, np.int32), *model.tokenize(SEQUENCES)])
        if not len(self._ids):
            self._ids = np.zeros(1, np.int32)

    def make(self, length: int, random: np.random.Generator) -> Int64s:
        inner = random.choice(self._ids, length - len(self._model.prefix) - len(self._model.suffix))
        return np.concatenate([self._model.prefix, inner, self._model.suffix]).astype(np.int64)


def _mates(
    rows: _Rows, least: int, longest: int, num_tokens: int, random: np.random.Generator
) -> list[Int64s]:
    """Rows of many lengths, as few as short ones allow, that have so many tokens together."""
    found = list[Int64s]()
    while num_tokens >= least:
        length = int(random.integers(least, min(longest, num_tokens) + 1))
        found.append(rows.make(length, random))
        num_tokens -= length
    return found


def _compute(model: EmbeddingModel, rows: Sequence[Int64s]) -> list[Vectors]:
    """The vectors of each row of one batch."""
    lengths: npt.NDArray[np.int64] = np.array([len(row) for row in rows])
    batch = TokenBatch(
        batch_idx=0,
        ordinals=np.arange(len(rows), dtype=np.uint64),
        input_ids=np.concatenate(rows),
        cu_seqlens=bounds_of(lengths).astype(np.int32),
        max_seqlen=int(lengths.max()),
        owned_starts=np.zeros(len(rows), np.int64),
        owned_ends=lengths,
        of_windows=False,
    )
    fetched = model.stage(batch).launch("float32").wait()
    return split_rows(fetched.embeddings, fetched.offsets)
