"""Put the windows of long records together again. Numpy only.

The vector of a token is the one of the window that owns it (see owned_bounds). What a window's row holds is
read out of the tokens that it owns alone, so that no token counts twice: the mean of a record is the mean of
the vectors that a row for every token would hold.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from gpu_tasks.errors import InferenceError
from gpu_tasks.inference.readout import joined_pools
from gpu_tasks.inference.rows import Int64s, Offsets, Ordinals, Vectors, join_vectors, offsets_of

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]
Places = tuple[Int64s, Int64s]
"""From where to where in its row the tokens lie that each window of a record pooled."""


def combine_windows(
    ordinals: Ordinals,
    rows: Sequence[Vectors],
    pools: Sequence[str],
    pooled: Callable[[int], Places],
    finish: Callable[[Float32s], Float32s],
    *,
    nothing: Vectors,
) -> tuple[Ordinals, Vectors]:
    """One row per record from one row per segment.

    Args:
        ordinals: uint64[rows], in plan order: the windows of a record stand in their order.
        rows: [1, dim] of a whole record, [1, width] of a window, in float32 or float16.
        pools: the pool of each of the vectors that stand side by side in a window's row. Means are those of
            all tokens, each with the weight that it has in its window; `cls` is the plain mean of the
            windows' first tokens, `max` the elementwise maximum, `last` the last window's.
        pooled: which places each window of a record pooled.
        finish: what the model makes of what the windows became, [n, width] to [n, dim].
        nothing: [0, dim], what is left where there are no rows.

    Returns:
        The ordinals, ascending, each once, and their rows in the dtype of `rows`. Sums run in float64, in
        plan order; records with one row keep their bytes.

    Raises:
        InferenceError: a record's vector does not fit in float16.
    """
    order = np.argsort(ordinals, kind="stable")
    unique, first, counts = np.unique(ordinals[order], return_index=True, return_counts=True)
    parts = [part for pool in pools for part in joined_pools(pool)]
    records = [nothing]
    for ordinal, begin, count in zip(unique.tolist(), first, counts, strict=True):
        windows = [rows[place] for place in order[begin : begin + count]]
        if count > 1:
            # By itself: what a record becomes must not depend on those beside it.
            finished = finish(_reduce_parts(np.concatenate(windows), parts, *pooled(ordinal)))
            windows = [_as_stored(ordinal, finished, windows[0].dtype)]
        records += windows
    return unique, join_vectors(records)


def join_windows(
    ordinals: Ordinals, rows: Sequence[Vectors], *, nothing: Vectors
) -> tuple[Ordinals, Vectors, Offsets]:
    """The vector of every token of each record, from one ragged row per segment: of the tokens it owns.

    Args:
        ordinals: uint64[rows], in plan order.
        rows: one [L, dim] for each.
        nothing: [0, dim], what is left where there are no rows.

    Returns:
        The ordinals, ascending, each once, and their ragged rows, whose bytes are those that came.
    """
    order = np.argsort(ordinals, kind="stable")
    unique, first = np.unique(ordinals[order], return_index=True)
    parts = [rows[place] for place in order]
    bounds = offsets_of([len(part) for part in parts])
    offsets = np.concatenate([bounds[:-1][first], bounds[-1:]])
    return unique, join_vectors([nothing, *parts]), offsets


def _reduce_parts(windows: Vectors, parts: Sequence[str], starts: Int64s, ends: Int64s) -> Float32s:
    """[1, width] of a record from its windows; each of the vectors side by side has a pool of its own."""
    vectors = np.split(windows.astype(np.float64), len(parts), axis=1)
    reduced = [_reduce(vector, starts, ends, part) for part, vector in zip(parts, vectors, strict=True)]
    return np.concatenate(reduced).astype(np.float32)[None]


def _as_stored(ordinal: int, vector: Float32s, dtype: npt.DTypeLike) -> Vectors:
    with np.errstate(over="ignore"):
        stored: Vectors = vector.astype(dtype)
    if not np.isfinite(stored).all():
        raise InferenceError(f"record {ordinal}: its vector does not fit in {stored.dtype}: store float32")
    return stored


def _reduce(windows: Float64s, starts: Int64s, ends: Int64s, pool: str) -> Float64s:
    if pool == "last":
        reduced: Float64s = windows[-1]
    elif pool == "max":
        reduced = windows.max(axis=0)
    elif pool == "cls":
        reduced = windows.mean(axis=0)
    elif pool == "mean_sqrt_len":
        counts = (ends - starts).astype(np.float64)
        reduced = (windows * np.sqrt(counts)[:, None]).sum(axis=0) / np.sqrt(counts.sum())
    else:
        # Of the places from 0, each weighs one more than its number where the mean is weighted.
        weights = (ends - starts) * ((starts + ends + 1) / 2 if pool == "weighted_mean" else 1.0)
        reduced = (windows * weights[:, None]).sum(axis=0) / weights.sum()
    return reduced
