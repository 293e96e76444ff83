"""The records of an ingest, spooled to one Arrow file: what they cost and repeat is known only at the end."""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from queue_app.errors import InputError
from queue_app.host.durable_files import removed_on_failure, room_for
from queue_app.ingest.records import Record
from queue_app.job.sequences import Hashes, Int64s
from queue_app.job.shard_files import RECORD_SCHEMA
from queue_app.job.spec import RECORD_COST

SPOOL_CHARACTERS = 4 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Spool:
    """All records as they were read: row n is the record of ordinal n.

    `costs` int64[n], in characters; `good` bool[n], false where there is a problem; `hashes` uint64[n, 2].
    """

    table: pa.Table
    costs: Int64s
    good: npt.NDArray[np.bool_]
    hashes: Hashes

    def select(self, rows: Int64s) -> pa.Table:
        """These rows, ascending and at least one. Unlike `take`, this never copies what lies between."""
        span = self.table.slice(rows[0], rows[-1] - rows[0] + 1)
        wanted = np.zeros(span.num_rows, np.bool_)
        wanted[rows - rows[0]] = True
        return span.filter(pa.array(wanted))


@contextlib.contextmanager
def spooled(records: Iterable[Record], path: Path) -> Iterator[Spool]:
    """Read the records to their end; the file is gone afterwards.

    Raises:
        InputError: there are no records.
        DiskFull: no room.
    """
    with room_for(path), removed_on_failure(path):
        costs, good, hashes = _write(records, path)
        if not len(costs):
            raise InputError("no records in the inputs")
        with pa.memory_map(str(path)) as mapped:
            yield Spool(pa.ipc.open_file(mapped).read_all(), costs, good, hashes)
        path.unlink()


def _write(records: Iterable[Record], path: Path) -> tuple[Int64s, npt.NDArray[np.bool_], Hashes]:
    import pyarrow.compute as pc  # here, as a worker that only reads shards has no use for it

    costs, good, hashes = [np.empty(0, np.int64)], [np.empty(0, np.bool_)], bytearray()
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, RECORD_SCHEMA) as writer:
        for rows in _runs(records):
            batch = _batch(rows)
            writer.write_batch(batch)
            lengths = pc.binary_length(batch.column("sequence")).to_numpy(zero_copy_only=False)
            costs.append(lengths.astype(np.int64) + RECORD_COST)
            good.append(np.array([row.problem is None for row in rows]))
            for row in rows:
                hashes += xxhash.xxh3_128_digest(_text(row).encode())
    return (
        np.concatenate(costs),
        np.concatenate(good),
        np.frombuffer(hashes, np.uint64).reshape(-1, 2),
    )


def _text(row: Record) -> str:
    """What is hashed: no input holds a NUL, so that a bad record never has the hash of a good one."""
    return row.sequence if row.problem is None else f"{row.problem}\0{row.sequence}"


def _runs(records: Iterable[Record]) -> Iterator[list[Record]]:
    rows: list[Record] = []
    waiting = 0
    for record in records:
        rows.append(record)
        waiting += len(record.sequence) + RECORD_COST
        if waiting >= SPOOL_CHARACTERS:
            yield rows
            rows, waiting = [], 0
    if rows:
        yield rows


def _batch(rows: list[Record]) -> pa.RecordBatch:
    columns = [[row.id for row in rows], [row.sequence for row in rows], [row.problem for row in rows]]
    return pa.record_batch([pa.array(column, pa.string()) for column in columns], schema=RECORD_SCHEMA)
