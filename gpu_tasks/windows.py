"""Put the windows of long records together again. Numpy only."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from gpu_tasks.batching import Ordinals, window_starts
from gpu_tasks.readout import Pool
from gpu_tasks.rows import Offsets, Vectors, join_vectors, offsets_of

Float32s = npt.NDArray[np.float32]


def combine_windows(
    ordinals: Ordinals, embeddings: Vectors, pools: Sequence[Pool], *, normalize: bool = False
) -> tuple[Ordinals, Vectors]:
    """One row per record from one row per segment.

    Args:
        ordinals: uint64[rows], in plan order: the windows of a record stand in their order.
        embeddings: float32 or float16 [rows, dim].
        pools: the pool of each of the equally wide vectors that stand side by side in a row. `mean` and
            `cls` take the mean of the windows (for `mean` that is the mean over tokens, as all windows of a
            record are equally long), `max` the elementwise maximum, `last` the last.
        normalize: bring the vectors of records that had several windows back to unit length.

    Returns:
        The ordinals, ascending, each once, and their rows in the dtype of `embeddings`. Sums run in
        float32, in plan order; records with one row keep their bytes.
    """
    order = np.argsort(ordinals, kind="stable")
    unique, first, counts = np.unique(ordinals[order], return_index=True, return_counts=True)
    combined = embeddings[order[first]]
    for row in np.flatnonzero(counts > 1):
        windows = embeddings[order[first[row] : first[row] + counts[row]]].astype(np.float32)
        parts = zip(pools, np.split(windows, len(pools), axis=1), strict=True)
        vectors = [_reduce(part, pool) for pool, part in parts]
        combined[row] = np.concatenate([_unit(each) for each in vectors] if normalize else vectors)
    return unique, combined


def join_windows(
    ordinals: Ordinals, rows: Sequence[Vectors], lengths: Mapping[int, int], overlap: int, *, nothing: Vectors
) -> tuple[Ordinals, Vectors, Offsets]:
    """The vector of every token of each record, from one ragged row per segment.

    A token in several windows gets their mean, so that the mean over a record's tokens weighs the windows
    as the planner does.

    Args:
        ordinals: uint64[rows], in plan order.
        rows: one [L, dim] for each.
        lengths: the tokens of each record that was cut into windows.
        overlap: the plan's `window_overlap`.
        nothing: [0, dim], what is left where there are no rows.

    Returns:
        The ordinals, ascending, each once, and their ragged rows. Sums run in float32, in plan order;
        records with one row keep their bytes.
    """
    order = np.argsort(ordinals, kind="stable")
    unique, first, counts = np.unique(ordinals[order], return_index=True, return_counts=True)
    joined = [nothing]
    for ordinal, begin, count in zip(unique.tolist(), first.tolist(), counts.tolist(), strict=True):
        windows = [rows[place] for place in order[begin : begin + count]]
        joined.append(windows[0] if count == 1 else _overlaid(windows, lengths[ordinal], overlap))
    return unique, join_vectors(joined), offsets_of([len(row) for row in joined[1:]])


def _overlaid(windows: Sequence[Vectors], length: int, overlap: int) -> Vectors:
    """[length, dim]: each token's mean over the windows that it is in."""
    width, dim = windows[0].shape
    sums, counts = np.zeros((length, dim), np.float32), np.zeros((length, 1), np.float32)
    for start, window in zip(window_starts(length, width, overlap).tolist(), windows, strict=True):
        sums[start : start + width] += window
        counts[start : start + width] += 1
    sums /= counts
    return _as_dtype(sums, windows[0])


def _as_dtype(values: Float32s, like: Vectors) -> Vectors:
    return values.astype(np.float16) if like.dtype == np.float16 else values


def _reduce(windows: Float32s, pool: Pool) -> Float32s:
    if pool == "last":
        reduced: Float32s = windows[-1]
    elif pool == "max":
        reduced = windows.max(axis=0)
    else:
        reduced = windows.mean(axis=0, dtype=np.float32)
    return reduced


def _unit(vector: Float32s) -> Float32s:
    unit: Float32s = vector / np.maximum(np.sqrt(np.sum(vector * vector)), np.float32(1e-12))
    return unit
