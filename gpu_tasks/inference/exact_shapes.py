"""What `--exact` makes of a batch: a shape of which no kernel chooses another order of its sums. Numpy only.

A matrix product is summed in an order that its library chooses by the number of rows, and a row's vector
differs in its last bits where that differs. So batches are filled with rows whose result is thrown away:

- On the processor only small products are summed in another way. Measured with MKL, float32: fewer than 4
  rows for each thread, and up to 11 rows of two threads. Batches are filled to 32 tokens for each thread.
- On CUDA every shape may have a kernel of its own. Batches have the budget's shape, or, where they are
  smaller, its half or its quarter: a worker sees at its start that the three agree.
"""

from dataclasses import dataclass, replace

import numpy as np

from gpu_tasks.inference.batch_plan import TokenBatch

TOKENS_PER_THREAD = 32
FILLER_ROW = 64
"""Tokens of a row that fills: attention costs the square."""
HALVINGS = 2
"""How often the budget's shape is halved for a batch that is smaller than planned."""
HEAD_ROWS = 64
"""Vectors that pass the head's modules at a time."""


@dataclass(frozen=True, slots=True)
class ExactShapes:
    """The shapes of one job. `budget` is the most tokens of a batch, `longest` the most of a segment, special
    ones included, where attention is to be told always the same; `threads` is 0 on CUDA. Where an encoder
    cannot but compute each row alone, nothing `fills`."""

    budget: int
    longest: int | None
    threads: int
    fills: bool = True

    def num_tokens(self, batch: TokenBatch) -> int:
        """How many tokens the batch is filled to. One of a single segment over the budget stays as it is."""
        given, halvings = len(batch.input_ids), batch.halvings
        if not self.fills:
            return given
        if self.threads:
            return max(given, TOKENS_PER_THREAD * self.threads)
        # A row that ran out of memory alone is no smaller in the same shape.
        largest = 0 if batch.num_rows > 1 else halvings
        sizes = (self.budget >> halving for halving in range(max(HALVINGS, halvings), largest - 1, -1))
        return next((size for size in sizes if size >= given), given)


def filled(batch: TokenBatch, num_tokens: int, row_most: int | None) -> TokenBatch:
    """The batch with rows behind its own that make it so many tokens; nothing is read out of these.

    `row_most` is the longest row that the model has positions for, None where it has no end.
    """
    missing = num_tokens - len(batch.input_ids)
    if missing <= 0:
        return batch
    row = min(FILLER_ROW, row_most or FILLER_ROW)
    whole, rest = divmod(missing, row)
    lengths = np.array([row] * whole + [rest] * bool(rest), np.int32)
    nothing = np.zeros(len(lengths), np.int64)
    return replace(
        batch,
        ordinals=np.concatenate([batch.ordinals, nothing.astype(np.uint64)]),
        input_ids=np.concatenate([batch.input_ids, np.zeros(missing, np.int64)]),
        cu_seqlens=np.concatenate([batch.cu_seqlens, batch.cu_seqlens[-1] + np.cumsum(lengths)]).astype(
            np.int32
        ),
        max_seqlen=max(batch.max_seqlen, int(lengths.max())),
        owned_starts=np.concatenate([batch.owned_starts, nothing]),
        owned_ends=np.concatenate([batch.owned_ends, nothing]),
    )
