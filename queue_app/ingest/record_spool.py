"""The records of an ingest, spooled to one Arrow file: what they cost and repeat is known only at the end."""

import contextlib
import mmap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from queue_app.array_types import Int64s
from queue_app.errors import InputError
from queue_app.host.durable_files import removed_on_failure, room_for
from queue_app.host.own_files import begun
from queue_app.ingest.census import Census
from queue_app.job.shard_files import RECORD_SCHEMA, Record
from queue_app.job.spec import RECORD_COST

SPOOL_CHARACTERS = 4 << 20
_Row = tuple[str, str, str | None]
"""Of a record what the spool holds: what stays with it beside that is another's."""


@dataclass(frozen=True, slots=True, eq=False)
class Spool:
    """All records as they were read: row n of `table` is the record of ordinal n."""

    table: pa.Table
    census: Census
    mapped: mmap.mmap

    def select(self, rows: Int64s) -> pa.Table:
        """These rows, ascending and at least one. Unlike `take`, this never copies what lies between."""
        span = self.table.slice(rows[0], rows[-1] - rows[0] + 1)
        if span.num_rows == len(rows):
            return span
        wanted = np.zeros(span.num_rows, np.bool_)
        wanted[rows - rows[0]] = True
        return span.filter(pa.array(wanted))

    def let_go(self) -> None:
        """Give back the memory of what was looked at: it lies in the file."""
        self.mapped.madvise(mmap.MADV_DONTNEED)


@contextlib.contextmanager
def spooled(records: Iterable[Record], path: Path) -> Iterator[Spool]:
    """Read the records to their end; the file is gone afterwards.

    Raises:
        InputError: there are no records.
        DiskFull: no room.
    """
    with room_for(path), removed_on_failure(path):
        census = Census()
        with pa.OSFile(begun(path), "wb") as file, pa.ipc.new_file(file, RECORD_SCHEMA) as writer:
            for batch in _batches(records, census):
                writer.write_batch(batch)
        if not len(census.costs):
            raise InputError("no records in the inputs")
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        yield Spool(pa.ipc.open_file(pa.py_buffer(mapped)).read_all(), census, mapped)
        path.unlink()


def _batches(records: Iterable[Record], census: Census) -> Iterator[pa.RecordBatch]:
    rows: list[_Row] = []
    waiting = 0
    for record in records:
        census.add(record)
        rows.append((record.id, record.sequence, record.problem))
        waiting += len(record.sequence) + len(record.id) + RECORD_COST
        if waiting >= SPOOL_CHARACTERS:
            yield _batch(rows)
            rows, waiting = [], 0
    if rows:
        yield _batch(rows)


def _batch(rows: list[_Row]) -> pa.RecordBatch:
    columns = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
    return pa.record_batch(columns, schema=RECORD_SCHEMA)
