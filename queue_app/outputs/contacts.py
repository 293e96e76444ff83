"""Maps of contacts: of each record one [L, L], which files hold row by row."""

from collections.abc import Iterator
from math import isqrt
from typing import overload

from queue_app.job.result_files import Vectors
from queue_app.outputs.ragged import Ragged


class Contacts(Ragged):
    """N maps of how probable it is that two residues of a protein touch: row i is [L_i, L_i], symmetric, as a
    view of `values`, which are [pairs, 1]."""

    __slots__ = ()

    @overload
    def __getitem__(self, place: int) -> Vectors: ...
    @overload
    def __getitem__(self, place: slice) -> "Contacts": ...
    def __getitem__(self, place: int | slice) -> "Vectors | Contacts":
        """The map of one record; of a slice the maps in it. Neither copies.

        Raises:
            IndexError: there is no such row.
            ValueError: a slice with a step, whose rows do not lie side by side.
        """
        found = super().__getitem__(place)
        return Contacts(found.values, found.offsets) if isinstance(found, Ragged) else as_map(found)

    def __iter__(self) -> Iterator[Vectors]:
        """The map of every record."""
        return (self[place] for place in range(len(self)))

    def __repr__(self) -> str:
        return f"Contacts({len(self)} maps, {len(self.values)} pairs, {self.values.dtype})"


def as_map(pairs: Vectors) -> Vectors:
    """[L, L] of the L * L numbers of one record, as a view."""
    length = isqrt(pairs.size)
    return pairs.reshape(length, length)
