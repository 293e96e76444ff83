"""Rows of different lengths as one array on disk: all vectors end to end, and where each row begins."""

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, overload

import numpy as np

from queue_app.host.durable_files import sync_file
from queue_app.job.output_names import ids_path, one_line
from queue_app.job.result_files import Vectors, as_matrix, num_vectors
from queue_app.job.sequences import Int64s
from queue_app.outputs.content import Content


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Ragged:
    """N rows, each with a vector for every residue or token: row i is [L_i, dim], as a view of `values`.

    With several layers row i is [L_i, layers, dim], in their order. Special tokens have no vector.
    """

    values: Vectors
    """[vectors, dim] or [vectors, layers, dim], read-only: those of all rows, end to end."""
    offsets: Int64s
    """[N + 1]: row i has the values from `offsets[i]` to `offsets[i + 1]`."""

    def __len__(self) -> int:
        """N, the number of rows."""
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, place: int) -> Vectors: ...
    @overload
    def __getitem__(self, place: slice) -> "Ragged": ...
    def __getitem__(self, place: int | slice) -> "Vectors | Ragged":
        """The vectors of one row; of a slice the rows in it. Neither copies.

        Raises:
            IndexError: there is no such row.
            ValueError: a slice with a step, whose rows do not lie side by side.
        """
        if isinstance(place, slice):
            return self._between(*place.indices(len(self)))
        number = operator.index(place)
        if not -len(self) <= number < len(self):
            raise IndexError(f"row {number} of {len(self)}")
        first, end = self.offsets[number % len(self) :][:2]
        return self.values[first:end]

    def _between(self, start: int, stop: int, step: int) -> "Ragged":
        if step != 1:
            raise ValueError("rows can only be sliced without a step: others do not lie side by side")
        bounds = self.offsets[start : max(start, stop) + 1]
        return Ragged(self.values[bounds[0] : bounds[-1]], bounds - bounds[0])

    def __iter__(self) -> Iterator[Vectors]:
        """The vectors of every row."""
        return (self[place] for place in range(len(self)))

    def __repr__(self) -> str:
        vectors, *dims = self.values.shape
        shape = " x ".join(map(str, dims))
        return f"Ragged({len(self)} rows, {vectors} vectors of {shape} {self.values.dtype})"


def write_ragged(path: Path, content: Content) -> None:
    """Write values (.npy), offsets and ids, one a line, a batch at a time, and fsync them."""
    offsets, row = np.zeros(content.num_rows + 1, np.int64), 0
    with path.open("wb") as file, ids_path(path).open("w", encoding="utf-8", newline="\n") as ids:
        _write_header(file, content, num_values=0)
        for batch in content.batches():
            ends = offsets[row] + np.cumsum(num_vectors(batch.column(content.columns[0])))
            offsets[row + 1 : row + 1 + len(ends)] = ends
            row += len(ends)
            parts = [as_matrix(batch.column(name)) for name in content.columns]
            file.write(np.stack(parts, axis=1).data)
            ids.writelines(f"{one_line(each)}\n" for each in batch.column("id").to_pylist())
        file.seek(0)
        _write_header(file, content, num_values=int(offsets[-1]))
    np.save(offsets_path(path), offsets)
    for written in (path, offsets_path(path), ids_path(path)):
        sync_file(written)


def _write_header(file: BinaryIO, content: Content, *, num_values: int) -> None:
    """NumPy leaves room in it for a first dimension that grows, so it may be written over."""
    layers = [len(content.columns)] if len(content.columns) > 1 else []
    shape = (num_values, *layers, content.dim)
    header = {"descr": np.dtype(content.dtype).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def open_ragged(path: Path) -> Ragged:
    """What `write_ragged` wrote: the values mapped, the offsets in memory."""
    values: Vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    return Ragged(values, np.load(offsets_path(path), allow_pickle=False))


def offsets_path(path: Path) -> Path:
    """Where the offsets of an array of values lie."""
    return path.with_suffix(".offsets.npy")
