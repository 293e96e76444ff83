"""Parquet and Arrow: the columns of ids and sequences, a few rows at a time, and nothing else of the file.

What these formats leave unchecked is checked before a value is looked at: damaged offsets would kill the
process that follows them, and a stream that ends between two batches shows only by its missing end that it
was cut off.
"""

import contextlib
import os
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from queue_app.columns import Columns, Places, find_places, plain
from queue_app.errors import InputError
from queue_app.sources import Pairs, Source

PARQUET_MAGIC = b"PAR1"
ARROW_FILE_MAGIC = b"ARROW1"
ARROW_STREAM_MAGIC = b"\xff\xff\xff\xff"
ARROW_STREAM_END = b"\xff\xff\xff\xff\0\0\0\0"
BATCH_ROWS = 256
READ_BYTES = 1 << 20
REASON_CHARACTERS = 160

Batches = Iterator[pa.RecordBatch]


def read_parquet(source: Source, columns: Columns) -> Pairs:
    """Pages are read as they are needed, and their checksums compared where there are any."""
    if not source.magic.startswith(PARQUET_MAGIC):
        raise InputError(f"{source.name}: not a Parquet file; unpack one that was compressed as a whole")
    _refuse_joined(source, PARQUET_MAGIC + PARQUET_MAGIC)
    with _refusals(source, "Parquet"):
        file = pq.ParquetFile(
            source.seekable(), buffer_size=READ_BYTES, pre_buffer=False, page_checksum_verification=True
        )
        places = _places(source, file.schema_arrow, columns)
        yield from _pairs(source, places, _parquet_batches(file, places))


def _parquet_batches(file: pq.ParquetFile, places: Places) -> Batches:
    chosen = [file.schema_arrow.names[place] for place in _wanted(places)]
    for batch in file.iter_batches(BATCH_ROWS, columns=chosen, use_threads=False):
        yield batch.select(chosen)


def read_arrow(source: Source, columns: Columns) -> Pairs:
    """An IPC file (Feather, version 2, is one) or an IPC stream, told by the first bytes."""
    if not source.magic.startswith((ARROW_FILE_MAGIC, ARROW_STREAM_MAGIC)):
        raise InputError(
            f"{source.name}: neither an Arrow file (Feather version 2) nor an Arrow stream; "
            "unpack one that was compressed as a whole"
        )
    is_file = source.magic.startswith(ARROW_FILE_MAGIC)
    with _refusals(source, "Arrow"):
        schema = (pa.ipc.open_file if is_file else pa.ipc.open_stream)(source.seekable()).schema
        places = _places(source, schema, columns)
        options = pa.ipc.IpcReadOptions(included_fields=_wanted(places), use_threads=False)
        yield from _pairs(source, places, (_file_batches if is_file else _stream_batches)(source, options))


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
    """Each ends in its magic and is read from its end: of joined files, all but the last would be lost."""
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
    """Of a batch of any size, which nobody has looked through yet."""
    batch.validate(full=True)
    for start in range(0, batch.num_rows, BATCH_ROWS):
        yield batch.slice(start, BATCH_ROWS)


def _places(source: Source, schema: pa.Schema, columns: Columns) -> Places:
    places = find_places(source.name, schema.names, columns)
    for place in _wanted(places):
        field = schema.field(place)
        if not _is_text(field.type) and not (place == places.id and pa.types.is_integer(field.type)):
            raise InputError(f"{source.name}: column {field.name!r} holds {field.type}, and no text")
    return places


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    is_any = (
        pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_binary,
        pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_null,
    )  # fmt: skip
    return any(is_kind(kind) for is_kind in is_any)


def _wanted(places: Places) -> list[int]:
    """The columns that are read, in the order in which the file has them."""
    return sorted({place for place in (places.id, places.sequence) if place is not None})


def _pairs(source: Source, places: Places, batches: Batches) -> Pairs:
    """A null is as good as an empty string, as in a CSV file, which knows no other."""
    wanted, number = _wanted(places), 0
    for batch in batches:
        texts = [_texts(column) for column in batch.columns]
        sequences = texts[wanted.index(places.sequence)]
        ids = None if places.id is None else texts[wanted.index(places.id)]
        for row, sequence in enumerate(sequences):
            number += 1
            where = f"{source.name}: row {number}"
            record_id = str(number) if ids is None else ids[row] or ""
            yield plain(where, record_id), plain(where, sequence or "")


def _texts(column: pa.Array) -> list[str | None]:
    if pa.types.is_dictionary(column.type):
        kind = column.type.value_type
        if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
            column = pa.array(column.to_pylist(), kind)  # as polars writes categories: pyarrow casts none
    texts: list[str | None] = column.cast(pa.string()).to_pylist()
    return texts


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
