"""Twins: records whose sequence an earlier record of the job has. That one, the first, is computed for all.

twins.arrow holds them by ordinal. What becomes of a first becomes of its twins: its vector is theirs, and
when it is set aside so are they.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from queue_app.job.directory import JobDir
from queue_app.job.sequences import Int64s, check_digest, read_batches
from queue_app.job.spec import Job

SCHEMA = pa.schema([("ordinal", pa.uint64()), ("id", pa.string()), ("first", pa.uint64())])


@dataclass(frozen=True, slots=True)
class Twin:
    """One twin; `first` is the ordinal of the record that is computed for it."""

    ordinal: int
    id: str
    first: int


def read_twins(job: Job, job_dir: JobDir, rows_at_once: int = 4_096) -> Iterator[pa.RecordBatch]:
    """All twins by ordinal, at most so many at a time.

    Raises:
        Damage: the file is not the one that was written at submit.
    """
    if job.twins is None:
        return
    check_digest(job_dir.twins, job.twins.digest)
    for batch in read_batches(job_dir.twins):
        for start in range(0, batch.num_rows, rows_at_once):
            yield batch.slice(start, rows_at_once)


def twins_of(job: Job, job_dir: JobDir, firsts: Collection[int]) -> list[Twin]:
    """The twins of these records, by ordinal. Raises Damage as `read_twins` does."""
    wanted = np.array(sorted(firsts), np.uint64)
    found = [
        batch.filter(pa.array(np.isin(batch.column("first").to_numpy(), wanted)))
        for batch in read_twins(job, job_dir)
    ]
    return [Twin(**row) for batch in found for row in batch.to_pylist()]


def all_firsts(job: Job, job_dir: JobDir) -> Int64s:
    """The records that have twins, ascending, each once."""
    firsts = [batch.column("first").to_numpy() for batch in read_twins(job, job_dir)]
    return np.unique(np.concatenate([np.empty(0, np.uint64), *firsts])).astype(np.int64)
