"""The arrays of an output that has arrays by name, and how NumPy writes one."""

from collections.abc import Sequence
from typing import IO, Any

import numpy as np

from queue_app.array_types import Int64s
from queue_app.job.result_files import EMBEDDING, num_vectors
from queue_app.outputs.content import Content
from queue_app.outputs.precision import Ranges


def array_name(column: str) -> str:
    """What a column is called as an array of its own: `embeddings`, or `embeddings_cls`, …"""
    return column.replace(EMBEDDING, "embeddings", 1)


def array_shape(content: Content, num_vectors: int) -> tuple[int, ...]:
    """[vectors, dim]; of contacts [pairs]: the map [L, L] of each record, row by row."""
    return (num_vectors,) if content.is_contacts else (num_vectors, content.dim)


def ranges_by_name(content: Content) -> dict[str, Ranges]:
    """The ranges of each column as an array of its own: `ranges`, or `ranges_cls`, … None where none are
    needed."""
    return {name.replace(EMBEDDING, "ranges", 1): each for name, each in content.coding.ranges.items()}


def row_offsets(content: Content) -> Int64s:
    """[N + 1]: ragged row i has the vectors from `offsets[i]` to `offsets[i + 1]`. Reads all rows once."""
    counts = [num_vectors(batch.column(content.columns[0])) for batch in content.batches()]
    return np.cumsum(np.concatenate([np.zeros(1, np.int64), *counts]))


def write_array_header(file: IO[bytes], dtype: Any, shape: Sequence[int]) -> None:
    """What a .npy begins with. NumPy leaves room in it for a first dimension that grows, so it may be written
    over."""
    header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": tuple(shape)}
    np.lib.format.write_array_header_1_0(file, header)
