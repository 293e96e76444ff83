"""Which sequences are the same, by the xxh3-128 of their text; the file by which a later job finds them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from queue_app.errors import Damage
from queue_app.host.durable_files import file_digest, sync_file
from queue_app.job.directory import JobDir
from queue_app.job.spec import Job

Int64s = npt.NDArray[np.int64]
Ordinals = npt.NDArray[np.uint64]
Hashes = npt.NDArray[np.uint64]
"""uint64[n, 2]: the two halves of each hash."""

HASH_BYTES = 16
SCHEMA = pa.schema([("ordinal", pa.uint64()), ("hash", pa.binary(HASH_BYTES))])
ROWS_PER_BATCH = 1 << 20


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


def write_sequences(path: Path, ordinals: Ordinals, hashes: Hashes) -> str:
    """Write sequences.arrow, by ordinal; answers the xxh3-128 (hex) of the file."""
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, SCHEMA) as writer:
        for start in range(0, len(ordinals), ROWS_PER_BATCH):
            part = np.ascontiguousarray(hashes[start : start + ROWS_PER_BATCH])
            packed = pa.Array.from_buffers(pa.binary(HASH_BYTES), len(part), [None, pa.py_buffer(part)])
            writer.write_batch(
                pa.record_batch([ordinals[start : start + ROWS_PER_BATCH], packed], schema=SCHEMA)
            )
    sync_file(path)
    return file_digest(path)


def read_sequences(job: Job, job_dir: JobDir) -> tuple[Int64s, Hashes]:
    """Ordinals and hashes of all good rows of a job. Raises Damage when the file is not the job's."""
    check_digest(job_dir.sequences, job.sequences_digest)
    ordinals, hashes = [np.empty(0, np.int64)], [np.empty((0, 2), np.uint64)]
    for batch in read_batches(job_dir.sequences):
        ordinals.append(batch.column("ordinal").to_numpy().astype(np.int64))
        packed = np.frombuffer(batch.column("hash").buffers()[1], np.uint64, 2 * batch.num_rows)
        hashes.append(packed.reshape(-1, 2))
    return np.concatenate(ordinals), np.concatenate(hashes)


def check_digest(path: Path, digest: str) -> None:
    """Raises Damage when a file that was written at submit is missing or another one."""
    if not path.is_file() or file_digest(path) != digest:
        raise Damage(f"{path}: not the file that was submitted; run embed again with --overwrite")


def read_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """The record batches of an Arrow file, from its memory map."""
    with pa.memory_map(str(path)) as mapped, pa.ipc.open_file(mapped) as file:
        for number in range(file.num_record_batches):
            yield file.get_batch(number)
