"""Put the windows of long records together again. Numpy only."""

import numpy as np
import numpy.typing as npt

from gpu_tasks.batching import Ordinals
from gpu_tasks.models import Pool

Float32s = npt.NDArray[np.float32]
Vectors = npt.NDArray[np.float32] | npt.NDArray[np.float16]


def combine_windows(
    ordinals: Ordinals, embeddings: Vectors, pool: Pool, *, normalize: bool = False
) -> tuple[Ordinals, Vectors]:
    """One vector per record from one vector per segment.

    Args:
        ordinals: uint64[rows], in plan order: the windows of a record stand in their order.
        embeddings: float32 or float16 [rows, dim].
        pool: `mean` and `cls` take the mean of the windows (for `mean` that is the mean over tokens,
            as all windows of a record are equally long), `max` the elementwise maximum, `last` the last.
        normalize: bring the records that had several windows back to unit length.

    Returns:
        The ordinals, ascending, each once, and their vectors in the dtype of `embeddings`. Sums run in
        float32, in plan order; records with one row keep their bytes.
    """
    order = np.argsort(ordinals, kind="stable")
    unique, first, counts = np.unique(ordinals[order], return_index=True, return_counts=True)
    combined = embeddings[order[first]]
    for row in np.flatnonzero(counts > 1):
        windows = embeddings[order[first[row] : first[row] + counts[row]]].astype(np.float32)
        vector = _reduce(windows, pool)
        combined[row] = _unit(vector) if normalize else vector
    return unique, combined


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
