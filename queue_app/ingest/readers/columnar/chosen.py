"""Which columns of a Parquet or Arrow file are read, by its schema."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from queue_app.errors import InputError
from queue_app.ingest.readers.columns import Columns, find_places


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which columns are read, by their places. Where none is one of ids, these are numbers from `first` on,
    `step` apart. `taken` are the names of sequences and of ids."""

    id: int | None
    sequence: int
    kept: Sequence[tuple[str, int]]
    taken: tuple[str, str | None]
    first: int = 1
    step: int = 1

    @property
    def places(self) -> list[int]:
        """In the order in which the file has them."""
        kept = [place for _, place in self.kept]
        return sorted({place for place in (self.id, self.sequence, *kept) if place is not None})


def choose(name: str, schema: pa.Schema, columns: Columns, index: tuple[str, range] | None = None) -> Chosen:
    """Raises InputError for a column that holds no text, and no whole numbers where they may be ids."""
    names = [*schema.names, *([index[0]] if index else [])]
    places = find_places(name, names, columns)
    for place in (places.sequence, *([] if places.id is None else [places.id])):
        kind = pa.int64() if place == len(schema.names) else schema.field(place).type
        if not is_text(kind) and not (place == places.id and pa.types.is_integer(kind)):
            raise InputError(f"{name}: column {names[place]!r} holds {kind}, and no text")
    kept = columns.keep.of_table(name, schema.names, (places.id, places.sequence))
    taken = places.names(names)
    if index and places.id == len(schema.names):
        return Chosen(None, places.sequence, kept, taken, index[1].start, index[1].step)
    return Chosen(places.id, places.sequence, kept, taken)


def numbered_index(schema: pa.Schema, num_rows: int) -> tuple[str, range] | None:
    """The index of a pandas table that is no column of the file, as it only counts rows: its name, its
    numbers. As in pandas none that has no name, or where rows were taken out since."""
    try:
        (index,) = json.loads((schema.metadata or {})[b"pandas"])["index_columns"]
        numbers = range(index["start"], index["stop"], index["step"])
        is_whole = isinstance(index["name"], str) and len(numbers) == num_rows
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
        return None  # not written by pandas, or with an index that is a column
    return (index["name"], numbers) if is_whole else None


def is_text(kind: pa.DataType) -> bool:
    """Strings, bytes that may be some, and what says of every row that there is none."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    is_any = (
        pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_binary,
        pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_null,
    )  # fmt: skip
    return any(is_kind(kind) for is_kind in is_any)
