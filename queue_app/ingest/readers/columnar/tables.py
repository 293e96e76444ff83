"""Parquet and Arrow in the child: the columns that are wanted, some rows at a time, and nothing else of them.

What these formats leave unchecked is checked before a value is looked at: damaged offsets would lead
anywhere, and a stream that ends between two batches shows only by its missing end that it was cut off.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from queue_app.errors import InputError
from queue_app.host.child_processes.confined_child import memory_most
from queue_app.ingest.readers.bounds.limits import Limits
from queue_app.ingest.readers.columnar.chosen import Chosen, choose, numbered_index
from queue_app.ingest.readers.columnar.magics import ARROW_FILE_MAGIC, PARQUET_MAGIC
from queue_app.ingest.readers.columnar.plain_batches import Untold, plain_batches
from queue_app.ingest.readers.columns import Columns
from queue_app.shown import visible

ARROW_STREAM_END = b"\xff\xff\xff\xff\0\0\0\0"
BATCH_ROWS = 1_024
FEWER = 16
"""By so much the number is divided where as many rows do not fit into the memory."""
ROWS_OF_NOTHING_MOST = 10_000_000
ROWS_A_BYTE_MOST = 100
"""Equal values and missing ones take next to no room: a kilobyte can say that it has 2 thousand million."""
READ_BYTES = 1 << 20
REASON_CHARACTERS = 160

Batches = Iterator[pa.RecordBatch]


@dataclass(frozen=True, slots=True)
class File:
    """A file that lies open at `path`; messages call it `name`."""

    path: str
    name: str
    format: str
    is_stream: bool
    limits: Limits


@dataclass(frozen=True, slots=True)
class _Unit:
    """A part of a file that is read by itself. `read` gives its rows from the first on, so many at once."""

    name: str
    num_rows: int
    read: Callable[[int], Batches]


def open_table(file: File, columns: Columns) -> tuple[Chosen, Batches]:
    """What is read of a file, and its rows as plain batches.

    Raises InputError for what is damaged, cut off, or larger than this process, as the batches do.
    """
    opened = _parquet if file.format == "parquet" else _arrow
    with _refusals(file):
        chosen, units = opened(file, columns)
    return chosen, _plain(file, chosen, units)


def _plain(file: File, chosen: Chosen, units: Iterator[_Unit]) -> Batches:
    with _refusals(file):
        for unit in units:
            yield from _plain_unit(file, chosen, unit)


def _plain_unit(file: File, chosen: Chosen, unit: _Unit) -> Batches:
    """What does not fit into the memory is read again, fewer rows at once."""
    done, rows = 0, BATCH_ROWS
    while True:
        try:
            for batch in _behind(done, unit.read(rows)):
                for part in plain_batches(batch, chosen, file.limits):
                    yield part
                    done += part.num_rows
            break
        except MemoryError:
            if rows == 1:
                raise InputError(f"{file.name}: {unit.name}: {_too_large()}") from None
            rows = max(rows // FEWER, 1)
    if done != unit.num_rows:
        raise InputError(f"{file.name}: {unit.name}: has {done:,} rows, and says {unit.num_rows:,}")


def _behind(num_rows: int, batches: Batches) -> Batches:
    """The batches without their first rows."""
    for batch in batches:
        skipped = min(num_rows, batch.num_rows)
        num_rows -= skipped
        if skipped < batch.num_rows:
            yield batch.slice(skipped)


def _parquet(file: File, columns: Columns) -> tuple[Chosen, Iterator[_Unit]]:
    """Pages are read as they are needed, and their checksums compared where there are any."""
    _refuse_joined(file, PARQUET_MAGIC + PARQUET_MAGIC)
    table = pq.ParquetFile(
        file.path, buffer_size=READ_BYTES, pre_buffer=False, page_checksum_verification=True
    )
    _refuse_rows_of_nothing(file, table.metadata.num_rows)
    index = numbered_index(table.schema_arrow, table.metadata.num_rows)
    chosen = choose(file.name, table.schema_arrow, columns, index)
    names = [table.schema_arrow.names[place] for place in chosen.places]
    return chosen, (_row_group(table, group, names) for group in range(table.num_row_groups))


def _row_group(table: pq.ParquetFile, group: int, names: Sequence[str]) -> _Unit:
    def read(rows: int) -> Batches:
        for batch in table.iter_batches(rows, row_groups=[group], columns=names, use_threads=False):
            yield batch.select(names)

    return _Unit(f"row group {group + 1}", table.metadata.row_group(group).num_rows, read)


def _arrow(file: File, columns: Columns) -> tuple[Chosen, Iterator[_Unit]]:
    """Mapped into memory: a batch that is not packed takes none, however large it is."""
    opened = pa.ipc.open_stream if file.is_stream else pa.ipc.open_file
    with pa.memory_map(file.path) as mapped:
        chosen = choose(file.name, opened(mapped).schema, columns)
    options = pa.ipc.IpcReadOptions(included_fields=chosen.places, use_threads=False)
    return chosen, _arrow_units(file, (_stream_batches if file.is_stream else _file_batches)(file, options))


def _arrow_units(file: File, batches: Batches) -> Iterator[_Unit]:
    num_rows, place = 0, 0
    while True:
        place += 1
        try:
            batch = next(batches, None)
        except MemoryError:
            raise InputError(f"{file.name}: batch {place}: {_too_large()}") from None
        if batch is None:
            return
        num_rows += batch.num_rows
        _refuse_rows_of_nothing(file, num_rows)
        # A batch may be of any size, and nobody has looked through it yet.
        batch.validate(full=True)
        yield _Unit(f"batch {place}", batch.num_rows, partial(_slices, batch))


def _slices(batch: pa.RecordBatch, rows: int) -> Batches:
    return (batch.slice(start, rows) for start in range(0, batch.num_rows, rows))


def _file_batches(file: File, options: pa.ipc.IpcReadOptions) -> Batches:
    _refuse_joined(file, ARROW_FILE_MAGIC + ARROW_FILE_MAGIC)
    with pa.memory_map(file.path) as mapped:
        reader = pa.ipc.open_file(mapped, options=options)
        for index in range(reader.num_record_batches):
            yield reader.get_batch(index)


def _stream_batches(file: File, options: pa.ipc.IpcReadOptions) -> Batches:
    with pa.memory_map(file.path) as mapped:
        yield from pa.ipc.open_stream(mapped, options=options)
        mapped.seek(-len(ARROW_STREAM_END), os.SEEK_CUR)
        if mapped.read(len(ARROW_STREAM_END)) != ARROW_STREAM_END:
            raise InputError(f"{file.name}: the Arrow stream is cut off: its end is missing")
        if mapped.read(1):
            raise _joined(file)


def _refuse_rows_of_nothing(file: File, num_rows: int) -> None:
    most = max(ROWS_OF_NOTHING_MOST, ROWS_A_BYTE_MOST * Path(file.path).stat().st_size)
    if num_rows > most:
        raise InputError(f"{file.name}: says that it has {num_rows:,} rows, which its bytes cannot hold")


def _refuse_joined(file: File, seam: bytes) -> None:
    """A file ends in its magic and is read from its end: of joined ones, all but the last would be lost."""
    behind = b""
    with Path(file.path).open("rb", buffering=0) as opened:
        while chunk := opened.read(READ_BYTES):
            if seam in behind + chunk:
                raise _joined(file)
            behind = chunk[-len(seam) :]


def _joined(file: File) -> InputError:
    return InputError(f"{file.name}: files joined to one, of which all but the last would be lost; name each")


@contextlib.contextmanager
def _refusals(file: File) -> Iterator[None]:
    """What pyarrow says of a file that is damaged or cut off, as one InputError."""
    try:
        yield
    except MemoryError:
        raise InputError(f"{file.name}: {_too_large()}") from None
    except Untold as untold:
        raise InputError(f"{file.name}: {untold}") from None
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's word, not the file's
        kind = "Parquet" if file.format == "parquet" else "Arrow"
        reason = " ".join(str(error).replace(file.path, file.name).split())
        raise InputError(
            f"{file.name}: the {kind} file is damaged or cut off ({visible(reason, REASON_CHARACTERS)})"
        ) from None


def _too_large() -> str:
    most = memory_most() >> 20
    return f"takes more memory than a reader has ({most} MiB); if it is sound, write it in smaller parts"
