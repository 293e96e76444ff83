"""Rows of vectors: one vector each, or ragged, with one vector per token. Numpy only.

Ragged: one [vectors, dim] and offsets uint64[n + 1]: row i is `embeddings[offsets[i]:offsets[i + 1]]`.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32] | npt.NDArray[np.float16]
Offsets = npt.NDArray[np.uint64]
Ordinals = npt.NDArray[np.uint64]
Int64s = npt.NDArray[np.int64]


def offsets_of(lengths: npt.ArrayLike) -> Offsets:
    """Where each of n rows with so many vectors begins and ends: uint64[n + 1]."""
    counts = np.asarray(lengths, dtype=np.uint64)
    return np.concatenate([np.zeros(1, np.uint64), np.cumsum(counts, dtype=np.uint64)])


def select_rows(
    embeddings: Vectors, offsets: Offsets | None, rows: npt.NDArray[np.bool_]
) -> tuple[Vectors, Offsets | None]:
    """The rows where the bool[n] mask is true."""
    if offsets is None:
        return embeddings[rows], None
    lengths = np.diff(offsets).astype(np.int64)
    return embeddings[np.repeat(rows, lengths)], offsets_of(lengths[rows])


def split_rows(embeddings: Vectors, offsets: Offsets | None) -> list[Vectors]:
    """Every row by itself, as a view: [1, dim], or [L, dim] where they are ragged."""
    if offsets is None:
        return [embeddings[row : row + 1] for row in range(len(embeddings))]
    return [embeddings[first:end] for first, end in pairwise(offsets.tolist())]


def join_vectors(parts: Sequence[Any]) -> Vectors:
    """[n_i, dim] each, all of one dtype, as one [sum of n_i, dim]."""
    joined: Vectors = np.concatenate(parts)
    return joined


def join_offsets(parts: Sequence[Offsets | None]) -> Offsets | None:
    """Of rows put one behind the other; None where they are not ragged."""
    ragged = [part for part in parts if part is not None]
    return offsets_of(np.concatenate([np.diff(part) for part in ragged])) if ragged else None
