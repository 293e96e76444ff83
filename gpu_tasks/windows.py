"""Put the windows of long records together again. Numpy only.

The vector of a token is the one of the window that owns it (see gpu_tasks.batching.owned_bounds). What a
window's row holds is read out of the tokens that it owns alone, so that here no token counts twice: the mean
of a record is the mean of the vectors that a row for every token would hold.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from gpu_tasks.batching import Int64s, Ordinals
from gpu_tasks.readout import Pool
from gpu_tasks.rows import Offsets, Vectors, join_vectors, offsets_of

Float64s = npt.NDArray[np.float64]


def combine_windows(
    ordinals: Ordinals,
    embeddings: Vectors,
    pools: Sequence[Pool],
    num_owned: Callable[[int], Int64s],
    *,
    normalize: bool = False,
) -> tuple[Ordinals, Vectors]:
    """One row per record from one row per segment.

    Args:
        ordinals: uint64[rows], in plan order: the windows of a record stand in their order.
        embeddings: float32 or float16 [rows, dim].
        pools: the pool of each of the equally wide vectors that stand side by side in a row. `mean` is the
            mean of the windows by the tokens that they own, `cls` the plain mean of the windows' first
            tokens, `max` the elementwise maximum, `last` the last window's.
        num_owned: how many tokens each window of a record owns, as they were pooled.
        normalize: bring the vectors of records that had several windows, which come as they were pooled, to
            unit length.

    Returns:
        The ordinals, ascending, each once, and their rows in the dtype of `embeddings`. Sums run in
        float64, in plan order; records with one row keep their bytes.
    """
    order = np.argsort(ordinals, kind="stable")
    unique, first, counts = np.unique(ordinals[order], return_index=True, return_counts=True)
    combined = embeddings[order[first]]
    for row in np.flatnonzero(counts > 1):
        windows = embeddings[order[first[row] : first[row] + counts[row]]].astype(np.float64)
        weights = num_owned(int(unique[row])).astype(np.float64)
        parts = zip(pools, np.split(windows, len(pools), axis=1), strict=True)
        vectors = [_finish(_reduce(part, weights, pool), normalize) for pool, part in parts]
        combined[row] = np.concatenate(vectors)
    return unique, combined


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


def _reduce(windows: Float64s, weights: Float64s, pool: Pool) -> Float64s:
    if pool == "last":
        reduced: Float64s = windows[-1]
    elif pool == "max":
        reduced = windows.max(axis=0)
    elif pool == "cls":
        reduced = windows.mean(axis=0)
    else:
        reduced = (windows * weights[:, None]).sum(axis=0) / weights.sum()
    return reduced


def _finish(vector: Float64s, normalize: bool) -> Float64s:
    """What the model makes of a record's pooled vector, as on the device of those that are one segment."""
    return vector / max(float(np.sqrt(np.sum(vector * vector))), 1e-12) if normalize else vector
