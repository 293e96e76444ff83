"""Parquet and Arrow as rows: a child process reads the file, whose batches of plain values become records."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import count, islice, repeat
from typing import Any

import pyarrow as pa

from queue_app.choices import InputFormat
from queue_app.errors import InputError
from queue_app.ingest.readers.columnar.child import ChildGone, reading
from queue_app.ingest.readers.columnar.frames import ID, SEQUENCE, UNUSABLE
from queue_app.ingest.readers.columnar.magics import ARROW_FILE_MAGIC, ARROW_STREAM_MAGIC, PARQUET_MAGIC
from queue_app.ingest.readers.columns import Columns
from queue_app.ingest.readers.sources import Rows, Source
from queue_app.ingest.readers.values import Row, Unusable, row_of
from queue_app.shown import visible


def read_parquet(source: Source, columns: Columns) -> Rows:
    """Raises InputError for a file that is none, damaged, or larger than its reader."""
    if not source.magic.startswith(PARQUET_MAGIC):
        raise InputError(f"{source.name}: not a Parquet file; unpack one that was compressed as a whole")
    yield from _read(source, columns, "parquet")


def read_arrow(source: Source, columns: Columns) -> Rows:
    """An IPC file (Feather, version 2, is one) or an IPC stream, told by the first bytes."""
    if not source.magic.startswith((ARROW_FILE_MAGIC, ARROW_STREAM_MAGIC)):
        raise InputError(
            f"{source.name}: neither an Arrow file (Feather version 2) nor an Arrow stream; "
            "unpack one that was compressed as a whole"
        )
    yield from _read(source, columns, "arrow")


def _read(source: Source, columns: Columns, form: InputFormat) -> Rows:
    request = {
        "name": source.name,
        "format": form,
        "limits": asdict(source.limits),
        "is_stream": source.magic.startswith(ARROW_STREAM_MAGIC),
        "id": columns.id,
        "sequence": columns.sequence,
        "keep": columns.keep.names,
    }
    num_rows = 0
    try:
        said = reading(source.seekable().fileno(), request)
        chosen = _heeded(next(said))["chosen"]
        source.taken = (chosen["taken"][0], chosen["taken"][1])
        names, numbers = [name for name, _ in chosen["kept"]], count(chosen["first"], chosen["step"])
        for each in said:
            if isinstance(each, bytearray):
                for row in _rows(_batch(each), num_rows, names, numbers):
                    num_rows += 1
                    yield row
            elif _heeded(each)["num_rows"] != num_rows:
                raise ChildGone(f"lost rows: {num_rows:,} of {each['num_rows']:,} came")
    except ChildGone as gone:
        raise InputError(
            f"{source.name}: behind row {num_rows:,}: what reads it {visible(str(gone))}; "
            "the file is damaged, or made to break its readers"
        ) from None


def _heeded(said: Any) -> Any:
    """Raises InputError where the child says that the file cannot be read."""
    if "error" in said:
        raise InputError(said["error"])
    return said


def _batch(written: bytearray) -> pa.RecordBatch:
    with pa.ipc.open_stream(pa.py_buffer(written)) as stream:
        return stream.read_next_batch()


def _rows(batch: pa.RecordBatch, before: int, names: Sequence[str], numbers: Iterator[int]) -> Rows:
    sequences = _values(batch.column(SEQUENCE))
    ids: Sequence[object] | Iterator[int] = islice(numbers, len(sequences))
    if ID in batch.schema.names:
        ids = _values(batch.column(ID))
    kept = [batch.column(str(index)).to_pylist() for index in range(len(names))]
    own = zip(*kept, strict=True) if kept else repeat((), len(sequences))
    reasons = batch.column(UNUSABLE).to_pylist()
    rows = zip(ids, sequences, own, reasons, strict=True)
    for number, (record_id, sequence, values, reason) in enumerate(rows, start=before + 1):
        row = row_of(f"row {number}", record_id, sequence, dict(zip(names, values, strict=True)))
        yield row if reason is None else Row(row.id, Unusable(f"{reason} (row {number})"), row.kept)


def _values(column: pa.Array) -> Sequence[object]:
    """Strings; bytes that are no UTF-8 stay what they are."""
    values: list[object] = column.to_pylist()
    return [_decoded(value) for value in values] if pa.types.is_large_binary(column.type) else values


def _decoded(value: object) -> object:
    try:
        return value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        return value
