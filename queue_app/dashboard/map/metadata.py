"""A table of what is known of the records beside their vectors: an id, and columns to colour a map by."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from queue_app.errors import InputError, UsageError
from queue_app.ingest.readers.columns import known_id
from queue_app.ingest.readers.csv_tsv import FIELD_CHARACTERS_MOST
from queue_app.ingest.readers.sources import Input, Source, open_source

NO_VALUE = frozenset(("", "na", "n/a", "nan", "null", "none"))
PACKED = (".gz", ".bz2", ".xz", ".zst")
ROWS_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True, eq=False)
class Metadata:
    """`table` holds strings; null where a field says that it has no value."""

    name: str
    table: pa.Table
    id_column: str

    @property
    def columns(self) -> tuple[str, ...]:
        """Those to colour by."""
        return tuple(name for name in self.table.column_names if name != self.id_column)

    def values(self, column: str, ids: list[str]) -> pa.Array:
        """The column's value for each id, numbers where all of the column are; null where it has none.

        Raises UsageError where the table knows none of the ids.
        """
        places = self._places(ids)
        if ids and places.null_count == len(ids):
            raise UsageError(
                f"{self.name}: its column {self.id_column!r} has none of the ids of this job, "
                f"such as {ids[0]!r}; the ids of both must be the same"
            )
        return _as_numbers(self.table[column].combine_chunks()).take(places)

    def texts(self, column: str, ids: list[str]) -> pa.Array:
        """The column's value for each id as it is written in the table; null where it has none."""
        return self.table[column].combine_chunks().take(self._places(ids))

    def _places(self, ids: list[str]) -> pa.Array:
        """The row of each id; that of its accession where it is none itself but has UniProt's form."""
        named = pa.array(ids, pa.string())
        known = self.table[self.id_column]
        accessions = pc.replace_substring_regex(named, r"^[A-Za-z]+\|([^|]+)\|.*$", r"\1")
        return pc.coalesce(*(pc.index_in(names, value_set=known) for names in (named, accessions)))


def read_metadata(path: Path) -> Metadata:
    """A CSV or TSV, perhaps packed, with a header and an id column: that of a known name, or else the first.

    Raises:
        InputError: it cannot be read, names a column or an id twice, or has but one column.
    """
    with open_source(Input(path, path)) as source:
        table = _read(source, _reader(source, path))
    id_column = table.column_names[known_id(table.column_names) or 0]
    _check_ids(path, table[id_column])
    return Metadata(path.name, table, id_column)


def _reader(source: Source, path: Path) -> Iterator[list[str]]:
    """As `tables` reads them: strict quotation in CSV, none in TSV."""
    csv.field_size_limit(FIELD_CHARACTERS_MOST)
    name = path.with_suffix("") if path.suffix in PACKED else path
    if name.suffix.lower() in (".tsv", ".tab"):
        return csv.reader(source.text(newline=""), delimiter="\t", quoting=csv.QUOTE_NONE)
    return csv.reader(source.text(newline=""), strict=True)


def _read(source: Source, rows: Iterator[list[str]]) -> pa.Table:
    header = [name.strip() for name in next(rows, [])]
    if len(header) < 2:
        raise InputError(f"{source.name}: a header with an id and at least one other column is wanted")
    if twice := next((name for name in header if header.count(name) > 1), None):
        raise InputError(f"{source.name}: two columns {twice!r}")
    schema = pa.schema([(name, pa.string()) for name in header])
    whole = _whole(source, rows, len(header))
    batches = []
    while part := list(islice(whole, ROWS_AT_ONCE)):
        batches.append(
            pa.record_batch([_strings(fields) for fields in zip(*part, strict=True)], schema=schema)
        )
    return pa.Table.from_batches(batches, schema)


def _whole(source: Source, rows: Iterator[list[str]], num_fields: int) -> Iterator[list[str]]:
    for number, row in enumerate(filter(None, rows), start=1):
        if len(row) != num_fields:
            raise InputError(
                f"{source.name}: row {number}: {len(row)} fields, but the header has {num_fields}"
            )
        yield row


def _strings(fields: Sequence[str]) -> pa.Array:
    stripped = (field.strip() for field in fields)
    return pa.array([None if field.lower() in NO_VALUE else field for field in stripped], pa.string())


def _check_ids(path: Path, ids: pa.ChunkedArray) -> None:
    counts = pc.value_counts(ids.drop_null())
    twice = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(twice):
        raise InputError(f"{path}: id {twice[0]['values'].as_py()!r} is there twice; each may be there once")


def _as_numbers(values: pa.Array) -> pa.Array:
    try:
        return pc.cast(values, pa.float64())
    except pa.ArrowInvalid:
        return values
