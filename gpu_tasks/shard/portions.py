"""The committed rows of a shard by record, cut into portions of bounded size. Numpy only.

A row stays a view of the block that it lies in: nothing is copied before its portion is.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, TypeAlias

from gpu_tasks.inference.rows import Vectors

Row: TypeAlias = tuple[int, Vectors]
"""A segment: the ordinal of its record, and its vectors, [1, dim], or [L, dim] where rows are ragged."""


def by_record(rows: Iterable[tuple[int, Any]]) -> list[Row]:
    """Ascending by ordinal; the windows of a record stay in the order in which they come."""
    return sorted(rows, key=itemgetter(0))


def cut_portions(rows: Sequence[Row], most_bytes: int) -> Iterator[list[Row]]:
    """Cut sorted rows between records, none of which is ever parted.

    A portion is larger than `most_bytes` only where it is a single record that is.
    """
    portion: list[Row] = []
    num_bytes = 0
    for _, windows in groupby(rows, key=itemgetter(0)):
        record = list(windows)
        record_bytes = sum(vectors.nbytes for _, vectors in record)
        if portion and num_bytes + record_bytes > most_bytes:
            yield portion
            portion, num_bytes = [], 0
        portion += record
        num_bytes += record_bytes
    if portion:
        yield portion
