"""One vector per row from packed hidden states.

Each row is summed by itself, token after token, in float64: no atomics, and nothing that depends on
which rows share the batch. A row without any token to pool gets NaN (means, last) or -inf (max), so that the
check for finite vectors finds it. What each pool is, is what sentence-transformers makes of one text alone.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gpu_tasks.inference.batch_plan import TokenBatch
from gpu_tasks.inference.readout import Left, joined_pools
from gpu_tasks.inference.rows import Int64s
from queue_app.model.spec import Pool


@dataclass(frozen=True, slots=True, eq=False)
class RowTokens:
    """Where the tokens that are read out of a batch's rows lie, on its device.

    `bounds` int64[3n + 1] cuts every row in three: its leading tokens, those to pool, its trailing tokens.
    `firsts` int64[n] is the token that stands for the row.
    """

    bounds: Tensor
    firsts: Tensor


def pooling_bounds(batch: TokenBatch, left: Left) -> tuple[Int64s, Int64s]:
    """`bounds` and `firsts` of a batch, as in RowTokens. To pool are tokens that the row owns."""
    begins = batch.cu_seqlens[:-1].astype(np.int64)
    lengths = np.diff(batch.cu_seqlens).astype(np.int64)
    bounds = np.empty(3 * len(lengths) + 1, dtype=np.int64)
    bounds[::3] = batch.cu_seqlens
    first, last = left.pooled(batch.owned_starts, batch.owned_ends, lengths)
    bounds[1::3], bounds[2::3] = begins + first, begins + last
    return bounds, begins + left.first(batch.owned_starts, lengths)


def pool_rows(hidden: Tensor, rows: RowTokens, pool: str) -> Tensor:
    """Reduce hidden states [T, dim] of any float dtype to float32 [n, dim]; joined pools widen the row."""
    parts = [_pool(hidden, rows, part) for part in joined_pools(pool)]
    return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]


def _pool(hidden: Tensor, rows: RowTokens, pool: Pool) -> Tensor:
    if pool == "cls":
        return hidden.index_select(0, rows.firsts).float()
    if pool == "last":
        behind, empty = rows.bounds[2::3], (rows.bounds.diff()[1::3] == 0)[:, None]
        return hidden.index_select(0, (behind - 1).clamp(min=0)).float().masked_fill(empty, torch.nan)
    if pool == "max":
        return _reduce(hidden.float(), rows.bounds, "max")
    exact = hidden.double()  # in float32 a sum of thousands of tokens loses a digit
    if pool == "mean_sqrt_len":
        found = _reduce(exact, rows.bounds, "sum") / rows.bounds.diff()[1::3, None].sqrt()
    elif pool == "weighted_mean":
        begins, first, behind = rows.bounds[:-1:3], rows.bounds[1::3], rows.bounds[2::3]
        totals = (behind - first) * (first + behind + 1 - 2 * begins)  # twice the sum of 1 + place in the row
        found = 2 * _reduce(exact * _weights(rows, len(hidden)), rows.bounds, "sum") / totals[:, None]
    else:
        found = _reduce(exact, rows.bounds, "mean")
    return found.float()


def _weights(rows: RowTokens, num_tokens: int) -> Tensor:
    """One more than each token's place in its row, [T, 1]."""
    lengths = rows.bounds[::3].diff()
    # With its size given, the device need not be waited for.
    begins = torch.repeat_interleave(rows.bounds[:-1:3], lengths, output_size=num_tokens)
    return (torch.arange(1, num_tokens + 1, device=begins.device) - begins)[:, None]


def _reduce(values: Tensor, bounds: Tensor, how: str) -> Tensor:
    # unsafe: the bounds come from the planner, and checking them would wait for the device.
    reduced = torch.segment_reduce(values, how, offsets=bounds, axis=0, unsafe=True)
    return reduced[1::3].contiguous()


def finite_rows(finite: Tensor, bounds: Tensor) -> Tensor:
    """bool[n]: the rows that have tokens to pool, all of which are finite, from bool[T]."""
    return _reduce(finite.float(), bounds, "min") == 1  # infinity where there are none
