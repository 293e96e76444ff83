"""Parquet and Arrow: the columns that are wanted, a few rows at a time, and nothing else of the file.

What these formats leave unchecked is checked before a value is looked at: damaged offsets would kill the
process that follows them, and a stream that ends between two batches shows only by its missing end that it
was cut off.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice, repeat

import pyarrow as pa
import pyarrow.parquet as pq

from queue_app.errors import InputError
from queue_app.ingest.readers.columns import Columns, find_places
from queue_app.ingest.readers.sources import Rows, Source
from queue_app.ingest.readers.values import row_of

PARQUET_MAGIC = b"PAR1"
ARROW_FILE_MAGIC = b"ARROW1"
ARROW_STREAM_MAGIC = b"\xff\xff\xff\xff"
ARROW_STREAM_END = b"\xff\xff\xff\xff\0\0\0\0"
BATCH_ROWS = 256
READ_BYTES = 1 << 20
REASON_CHARACTERS = 160

Batches = Iterator[pa.RecordBatch]
_RowIndex = tuple[str, Iterator[int]]
"""The index of a pandas table that is no column of the file, as it only counts rows: its name and numbers."""


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Which columns are read, by their places; `numbers` are the ids where none is one of ids."""

    id: int | None
    sequence: int
    numbers: Iterator[int]
    kept: Sequence[tuple[str, int]]

    @property
    def places(self) -> list[int]:
        """In the order in which the file has them."""
        kept = [place for _, place in self.kept]
        return sorted({place for place in (self.id, self.sequence, *kept) if place is not None})


def read_parquet(source: Source, columns: Columns) -> Rows:
    """Pages are read as they are needed, and their checksums compared where there are any."""
    if not source.magic.startswith(PARQUET_MAGIC):
        raise InputError(f"{source.name}: not a Parquet file; unpack one that was compressed as a whole")
    _refuse_joined(source, PARQUET_MAGIC + PARQUET_MAGIC)
    with _refusals(source, "Parquet"):
        file = pq.ParquetFile(
            source.seekable(), buffer_size=READ_BYTES, pre_buffer=False, page_checksum_verification=True
        )
        index = _numbered_index(file.schema_arrow, file.metadata.num_rows)
        chosen = _choose(source, file.schema_arrow, columns, index)
        yield from _rows(chosen, _parquet_batches(file, chosen))


def _parquet_batches(file: pq.ParquetFile, chosen: _Chosen) -> Batches:
    names = [file.schema_arrow.names[place] for place in chosen.places]
    for batch in file.iter_batches(BATCH_ROWS, columns=names, use_threads=False):
        yield batch.select(names)


def read_arrow(source: Source, columns: Columns) -> Rows:
    """An IPC file (Feather, version 2, is one) or an IPC stream, told by the first bytes."""
    if not source.magic.startswith((ARROW_FILE_MAGIC, ARROW_STREAM_MAGIC)):
        raise InputError(
            f"{source.name}: neither an Arrow file (Feather version 2) nor an Arrow stream; "
            "unpack one that was compressed as a whole"
        )
    is_file = source.magic.startswith(ARROW_FILE_MAGIC)
    with _refusals(source, "Arrow"):
        schema = (pa.ipc.open_file if is_file else pa.ipc.open_stream)(source.seekable()).schema
        chosen = _choose(source, schema, columns)
        options = pa.ipc.IpcReadOptions(included_fields=chosen.places, use_threads=False)
        batches = (_file_batches if is_file else _stream_batches)(source, options)
        yield from _rows(chosen, batches)


def _file_batches(source: Source, options: pa.ipc.IpcReadOptions) -> Batches:
    _refuse_joined(source, ARROW_FILE_MAGIC + ARROW_FILE_MAGIC)
    reader = pa.ipc.open_file(source.seekable(), options=options)
    for index in range(reader.num_record_batches):
        yield from _checked_slices(reader.get_batch(index))


def _stream_batches(source: Source, options: pa.ipc.IpcReadOptions) -> Batches:
    file = source.seekable()
    file.seek(0)
    for batch in pa.ipc.open_stream(file, options=options):
        yield from _checked_slices(batch)
    file.seek(-len(ARROW_STREAM_END), os.SEEK_CUR)
    if file.read(len(ARROW_STREAM_END)) != ARROW_STREAM_END:
        raise InputError(f"{source.name}: the Arrow stream is cut off: its end is missing")
    if file.read(1):
        raise _joined(source)


def _refuse_joined(source: Source, seam: bytes) -> None:
    """A file ends in its magic and is read from its end: of joined ones, all but the last would be lost."""
    file, behind = source.seekable(), b""
    file.seek(0)
    while chunk := file.read(READ_BYTES):
        if seam in behind + chunk:
            raise _joined(source)
        behind = chunk[-len(seam) :]
    file.seek(0)


def _joined(source: Source) -> InputError:
    return InputError(
        f"{source.name}: files joined to one, of which all but the last would be lost; name each"
    )


def _checked_slices(batch: pa.RecordBatch) -> Batches:
    """A batch may be of any size, and nobody has looked through it yet."""
    batch.validate(full=True)
    for start in range(0, batch.num_rows, BATCH_ROWS):
        yield batch.slice(start, BATCH_ROWS)


def _choose(source: Source, schema: pa.Schema, columns: Columns, index: _RowIndex | None = None) -> _Chosen:
    """Raises InputError for a column that holds no text, and no whole numbers where they may be ids."""
    names = [*schema.names, *([index[0]] if index else [])]
    places = find_places(source.name, names, columns)
    source.taken = places.names(names)
    for place in (places.sequence, *([] if places.id is None else [places.id])):
        kind = pa.int64() if place == len(schema.names) else schema.field(place).type
        if not _is_text(kind) and not (place == places.id and pa.types.is_integer(kind)):
            raise InputError(f"{source.name}: column {names[place]!r} holds {kind}, and no text")
    kept = columns.keep.of_table(source.name, schema.names, (places.id, places.sequence))
    if index and places.id == len(schema.names):
        return _Chosen(None, places.sequence, index[1], kept)
    return _Chosen(places.id, places.sequence, count(1), kept)


def _numbered_index(schema: pa.Schema, num_rows: int) -> _RowIndex | None:
    """The one that has a name, whose numbers may be ids; as in pandas not where rows were taken out since."""
    try:
        (index,) = json.loads((schema.metadata or {})[b"pandas"])["index_columns"]
        numbers = range(index["start"], index["stop"], index["step"])
    except (KeyError, TypeError, ValueError):
        return None  # not written by pandas, or with an index that is a column
    if not isinstance(index["name"], str) or len(numbers) != num_rows:
        return None
    return index["name"], count(numbers.start, numbers.step)


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    is_any = (
        pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_binary,
        pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_null,
    )  # fmt: skip
    return any(is_kind(kind) for is_kind in is_any)


def _rows(chosen: _Chosen, batches: Batches) -> Rows:
    number = 0
    for batch in batches:
        columns = dict(zip(chosen.places, batch.columns, strict=True))
        sequences = _values(columns[chosen.sequence])
        taken = islice(chosen.numbers, len(sequences))
        ids = taken if chosen.id is None else _values(columns[chosen.id])
        names, kept = [name for name, _ in chosen.kept], [_kept(columns[place]) for _, place in chosen.kept]
        own = zip(*kept, strict=True) if kept else repeat((), len(sequences))
        for record_id, sequence, values in zip(ids, sequences, own, strict=True):
            number += 1
            yield row_of(f"row {number}", record_id, sequence, dict(zip(names, values, strict=True)))


def _kept(column: pa.Array) -> Sequence[object]:
    """Strings, numbers and truth as they are; of all else its text, or what JSON can be made of."""
    kind = column.type
    if _is_text(kind):
        return _values(column)
    if pa.types.is_floating(kind):
        column = column.cast(pa.float64())
    elif not any(is_kind(kind) for is_kind in (pa.types.is_integer, pa.types.is_boolean, pa.types.is_nested)):
        # What Arrow has no text of, as bytes that are no UTF-8, is told by its Python value below.
        with contextlib.suppress(pa.ArrowInvalid, pa.ArrowNotImplementedError):
            column = column.cast(pa.string())
    values: list[object] = column.to_pylist()
    return values


def _values(column: pa.Array) -> Sequence[object]:
    """Strings; bytes that are no UTF-8 stay what they are."""
    if pa.types.is_dictionary(column.type):
        kind = column.type.value_type
        if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
            column = pa.array(column.to_pylist(), kind)  # as polars writes categories: pyarrow casts none
    try:
        texts: list[str | None] = column.cast(pa.string()).to_pylist()
        return texts
    except pa.ArrowInvalid:
        return [_decoded(value) for value in column.to_pylist()]


def _decoded(value: object) -> object:
    try:
        return value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        return value


@contextlib.contextmanager
def _refusals(source: Source, kind: str) -> Iterator[None]:
    """What pyarrow says of a file that is damaged or cut off, as one InputError."""
    try:
        yield
    except (pa.ArrowException, UnicodeDecodeError, OSError, MemoryError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's word, not the file's
        reason = " ".join(str(error).split())[:REASON_CHARACTERS]
        raise InputError(f"{source.name}: the {kind} file is damaged or cut off ({reason})") from None
