"""Vectors in fewer bits, as `quantize_embeddings` of sentence-transformers writes them.

| precision | |
|---|---|
| int8, uint8 | each number one of 256 steps between the least and the most of its place |
| binary, ubinary | each number one bit, whether it is above zero; 8 a byte, the last one filled with zeros |

What is computed, stored and digested stays what it was: this is how an output is written.
https://sbert.net/docs/package_reference/util/quantization.html
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from queue_app.choices import Precision
from queue_app.job.readouts import num_codes
from queue_app.job.result_files import Vectors, as_matrix

NUM_STEPS = 255
SIGN = 128

Ranges = npt.NDArray[np.float32]
"""[2, dim]: the least and the most of each place."""
Codes = npt.NDArray[np.int8] | npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Coding:
    """How the vectors of each column become what an output holds."""

    precision: Precision
    ranges: Mapping[str, Ranges]
    """By column; empty where none are needed."""

    def dtype(self, stored: str) -> str:
        """That of the codes; `stored` is that of the vectors."""
        kinds = {"float32": stored, "int8": "int8", "uint8": "uint8", "binary": "int8", "ubinary": "uint8"}
        return kinds[self.precision]

    def dim(self, dim: int) -> int:
        """How many codes a vector of so many numbers has."""
        return num_codes(dim, self.precision)

    def encoded(self, batch: pa.RecordBatch, columns: Sequence[str]) -> pa.RecordBatch:
        """The batch with codes in the place of vectors."""
        if self.precision == "float32":
            return batch
        for name in columns:
            codes = self.encode(as_matrix(batch.column(name)), name)
            array = pa.FixedSizeListArray.from_arrays(pa.array(codes.reshape(-1)), codes.shape[1])
            batch = batch.set_column(batch.schema.get_field_index(name), name, array)
        return batch

    def encode(self, vectors: Vectors, column: str) -> Codes:
        """The codes of vectors [n, dim] of a column."""
        if self.precision.endswith("binary"):
            bits: npt.NDArray[np.uint8] = np.packbits(vectors > 0, axis=-1)
            return (bits - SIGN).astype(np.int8) if self.precision == "binary" else bits
        starts, ends = self.ranges[column]
        steps = (ends - starts) / NUM_STEPS
        steps[steps == 0] = 1
        codes: npt.NDArray[np.float32] = np.clip(np.floor((vectors - starts) / steps), 0, NUM_STEPS)
        return (codes - SIGN).astype(np.int8) if self.precision == "int8" else codes.astype(np.uint8)


def coding_of(
    precision: Precision, columns: Sequence[str], dim: int, rows: Iterable[pa.RecordBatch]
) -> Coding:
    """The coding for these rows, which are read only where their ranges are needed: all of them, once."""
    return Coding(precision, _ranges(columns, dim, rows) if precision.endswith("int8") else {})


def _ranges(columns: Sequence[str], dim: int, rows: Iterable[pa.RecordBatch]) -> dict[str, Ranges]:
    """Of no rows at all: zeros."""
    found: dict[str, Any] = {}
    for batch in rows:
        for name in columns:
            vectors = as_matrix(batch.column(name)).astype(np.float32, copy=False)
            ends = np.vstack((vectors.min(axis=0), vectors.max(axis=0)))
            least, most = found.setdefault(name, ends)
            found[name] = np.vstack((np.minimum(least, ends[0]), np.maximum(most, ends[1])))
    return {name: found.get(name, np.zeros((2, dim), np.float32)) for name in columns}
