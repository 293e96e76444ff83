"""Different sequences with one and the same vector: then the vectors say nothing, and none is published.

A model that has collapsed makes such, and a layer or a pooling that no letter reaches. Numpy only.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from gpu_tasks.inference.rows import Offsets, Vectors

SAMPLE = 256
"""Records of a shard that are compared: more would say the same."""
DIFFERENT_LEAST = 8
"""Of so many different sequences more than half may not share a vector; of fewer, not all."""
ALIKE_LEAST = 3
CLOSE = 1e-5
"""Relative, number by number: means of one vector over different lengths differ in their last bits."""


def spread(ordinals: Sequence[int]) -> list[int]:
    """So many of them that it is enough to compare those."""
    return [*ordinals[:: max(1, -(-len(ordinals) // SAMPLE))]]


def sharing_one_vector(vectors: Vectors, offsets: Offsets | None) -> list[int]:
    """The rows that share a vector, ascending; none, where too few do for it to mean anything.

    Args:
        vectors: [n, dim] of n different sequences; with `offsets` ragged, the vectors of all their tokens.
            Such a row is compared where all its tokens have one vector.
    """
    firsts, is_one = _firsts(vectors, offsets)
    num_rows = len(firsts)
    if not num_rows:
        return []
    # Only the median, number by number, can be shared by more than half.
    shared = np.flatnonzero(is_one & _is_close(firsts, np.median(firsts, axis=0)))
    if num_rows >= DIFFERENT_LEAST:
        enough = 2 * len(shared) > num_rows
    else:
        enough = len(shared) == num_rows >= ALIKE_LEAST
    return [*map(int, shared)] if enough else []


def _firsts(
    vectors: Vectors, offsets: Offsets | None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Of each row its first vector, and whether it is the only one there."""
    if offsets is None:
        return vectors.astype(np.float32), np.ones(len(vectors), np.bool_)
    runs = [(first, end) for first, end in pairwise(offsets.tolist()) if end > first]
    firsts = vectors[[first for first, _ in runs]].astype(np.float32)
    is_one = [bool(_is_close(vectors[first:end], vectors[first]).all()) for first, end in runs]
    return firsts, np.array(is_one, np.bool_)


def _is_close(vectors: Vectors, vector: Vectors) -> npt.NDArray[np.bool_]:
    wanted = vector.astype(np.float32)
    close: npt.NDArray[np.bool_] = (np.abs(vectors - wanted) <= CLOSE * np.abs(wanted)).all(axis=1)
    return close
