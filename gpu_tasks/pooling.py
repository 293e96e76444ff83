"""One vector per row from packed hidden states.

Each row is summed by itself, token after token, in float32: no atomics, and nothing that depends on
which rows share the batch. A row without any token to pool gets NaN (mean) or -inf (max), so that the
check for finite vectors finds it.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gpu_tasks.batching import TokenBatch
from gpu_tasks.readout import Pool


def pooling_bounds(batch: TokenBatch, num_prefix: int, num_suffix: int) -> npt.NDArray[np.int64]:
    """Cut every row in three, int64[3n + 1]: its leading tokens, those to pool, its trailing tokens.

    To pool are the tokens that the row owns. `num_prefix` and `num_suffix` count the special tokens to leave
    out of them; with 0 they are pooled too.
    """
    begins, ends = batch.cu_seqlens[:-1].astype(np.int64), batch.cu_seqlens[1:].astype(np.int64)
    bounds = np.empty(3 * len(batch.cu_seqlens) - 2, dtype=np.int64)
    bounds[::3] = batch.cu_seqlens
    bounds[1::3] = begins + np.maximum(batch.owned_starts, num_prefix)
    bounds[2::3] = np.minimum(begins + batch.owned_ends, ends - num_suffix)
    return bounds


def pool_rows(hidden: Tensor, bounds: Tensor, pool: Pool) -> Tensor:
    """Reduce hidden states [T, dim] to float32 [n, dim].

    Args:
        hidden: packed rows, any float dtype.
        bounds: what `pooling_bounds` made, on the device of `hidden`.
        pool: `cls` takes the row's first token, `last` the last one to pool.
    """
    if pool == "cls":
        return hidden.index_select(0, bounds[:-1:3]).float()
    if pool == "last":
        return hidden.index_select(0, bounds[2::3] - 1).float()
    # unsafe: the bounds come from the planner, and checking them would wait for the device.
    reduced = torch.segment_reduce(hidden.float(), pool, offsets=bounds, axis=0, unsafe=True)
    return reduced[1::3].contiguous()


def finite_rows(finite: Tensor, bounds: Tensor) -> Tensor:
    """bool[n]: the rows that have tokens to pool, all of which are finite, from bool[T]."""
    least = torch.segment_reduce(finite.float(), "min", offsets=bounds, axis=0, unsafe=True)
    return least[1::3] == 1  # infinity where there are none
