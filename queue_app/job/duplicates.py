"""Which sequences of a job are the same: twins.arrow, and sequences.arrow by which a later job finds vectors.

A duplicate is a record whose sequence an earlier record has. That one, the first, is computed for all: its
vector is theirs, and when it is quarantined so are they.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from queue_app.array_types import Hashes, Int64s, Ordinals
from queue_app.errors import Damage
from queue_app.host.durable_files import file_digest, has_digest, sync_file
from queue_app.host.own_files import begun
from queue_app.job.directory import JobDir
from queue_app.job.spec import Job

NOT_FOUND = -1
"""In the place of a row of an earlier job: it has none of this sequence."""
HASH_BYTES = 16
TWINS_SCHEMA = pa.schema([("ordinal", pa.uint64()), ("id", pa.string()), ("first", pa.uint64())])
"""By ordinal."""
SEQUENCES_SCHEMA = pa.schema([("ordinal", pa.uint64()), ("hash", pa.binary(HASH_BYTES))])
ROWS_PER_BATCH = 1 << 20


@dataclass(frozen=True, slots=True)
class Duplicate:
    """One duplicate; `first` is the ordinal of the record that is computed for it."""

    ordinal: int
    id: str
    first: int


def find_firsts(hashes: Hashes) -> Int64s:
    """Per row, the first row of the same hash: itself where it is the first.

    By sorting, in arrays: with it an ingest holds some 90 bytes a record at its peak, where a dictionary
    alone would take 150.
    """
    order = np.lexsort((hashes[:, 1], hashes[:, 0]))  # stable: equal ones stay in their order
    begins = np.zeros(len(order), np.bool_)
    begins[:1] = True
    for half in hashes.T:
        values = half[order]
        begins[1:] |= values[1:] != values[:-1]
    starts = np.flatnonzero(begins)
    firsts = np.empty(len(order), np.int64)
    firsts[order] = np.repeat(order[starts], np.diff(starts, append=len(order)))
    return firsts


def read_duplicates(job: Job, job_dir: JobDir, rows_at_once: int = 4_096) -> Iterator[pa.RecordBatch]:
    """All duplicates by ordinal, at most so many at a time. Raises Damage when the file is not the job's."""
    if job.twins is not None:
        for batch in _read_checked(job_dir.twins, job.twins.digest):
            for start in range(0, batch.num_rows, rows_at_once):
                yield batch.slice(start, rows_at_once)


def duplicates_of(job: Job, job_dir: JobDir, firsts: Collection[int]) -> list[Duplicate]:
    """The duplicates of these records, by ordinal. Raises Damage as `read_duplicates` does."""
    wanted = np.array(sorted(firsts), np.uint64)
    found = [
        batch.filter(pa.array(np.isin(batch.column("first").to_numpy(), wanted)))
        for batch in read_duplicates(job, job_dir)
    ]
    return [Duplicate(**row) for batch in found for row in batch.to_pylist()]


def all_firsts(job: Job, job_dir: JobDir) -> Int64s:
    """The records that have duplicates, ascending, each once."""
    firsts = [batch.column("first").to_numpy() for batch in read_duplicates(job, job_dir)]
    return np.unique(np.concatenate([np.empty(0, np.uint64), *firsts])).astype(np.int64)


def write_sequences(path: Path, ordinals: Ordinals, hashes: Hashes) -> str:
    """Write sequences.arrow, by ordinal; answers the xxh3-128 (hex) of the file."""
    with pa.OSFile(begun(path), "wb") as file, pa.ipc.new_file(file, SEQUENCES_SCHEMA) as writer:
        for start in range(0, len(ordinals), ROWS_PER_BATCH):
            part = np.ascontiguousarray(hashes[start : start + ROWS_PER_BATCH])
            packed = pa.Array.from_buffers(pa.binary(HASH_BYTES), len(part), [None, pa.py_buffer(part)])
            columns = [ordinals[start : start + ROWS_PER_BATCH], packed]
            writer.write_batch(pa.record_batch(columns, schema=SEQUENCES_SCHEMA))
    sync_file(path)
    return file_digest(path)


def read_sequences(job: Job, job_dir: JobDir) -> tuple[Int64s, Hashes]:
    """Ordinals and hashes of all good rows of a job. Raises Damage when the file is not the job's."""
    ordinals, hashes = [np.empty(0, np.int64)], [np.empty((0, 2), np.uint64)]
    for batch in _read_checked(job_dir.sequences, job.sequences_digest):
        ordinals.append(batch.column("ordinal").to_numpy().astype(np.int64))
        packed = np.frombuffer(batch.column("hash").buffers()[1], np.uint64, 2 * batch.num_rows)
        hashes.append(packed.reshape(-1, 2))
    return np.concatenate(ordinals), np.concatenate(hashes)


def check_digest(path: Path, digest: str) -> None:
    """Raises Damage when a file that was written at submit is missing or another one."""
    if not has_digest(path, digest):
        raise Damage(f"{path}: not the file that was submitted; run embed again with --overwrite")


def _read_checked(path: Path, digest: str) -> Iterator[pa.RecordBatch]:
    """The record batches of an Arrow file, from its memory map."""
    check_digest(path, digest)
    with pa.memory_map(str(path)) as mapped, pa.ipc.open_file(mapped) as file:
        for number in range(file.num_record_batches):
            yield file.get_batch(number)
