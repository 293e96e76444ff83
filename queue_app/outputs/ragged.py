"""Rows of different lengths over one memory-mapped array."""

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from typing import overload

from queue_app.array_types import Int64s
from queue_app.job.result_files import Vectors


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
