"""The published rows of a finished job, as the map of its embeddings reads them: checked, a batch at a time.

A record whose sequence an earlier one has (a duplicate) has that one's row.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import xxhash

from checkpoint.records import DoneRecord
from queue_app.array_types import Floats, Int64s
from queue_app.dashboard.map.shards_of_records import shards_with
from queue_app.errors import Damage, UsageError
from queue_app.job.directory import JobDir
from queue_app.job.done_records import all_done, require_published
from queue_app.job.duplicates import read_duplicates
from queue_app.job.readouts import column_names, is_ragged
from queue_app.job.result_files import as_matrix, iter_result
from queue_app.job.result_rows import among, computed_rows
from queue_app.job.spec import Job


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Some rows, by ordinal, and one vector of each, [n, dim]."""

    ids: pa.StringArray
    ordinals: Int64s
    vectors: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Published:
    """What the shards of a job have published."""

    job: Job
    job_dir: JobDir
    done: Mapping[int, DoneRecord]

    @classmethod
    def find(cls, job: Job, job_dir: JobDir) -> "Published":
        """Raises HoldfastError where there is no vector for every record, or not yet."""
        if is_ragged(job.options):
            raise UsageError(
                f"every token has a vector, and no record one (--pool {job.options.pool}); embed with --pool "
                "mean for a map"
            )
        done = all_done(job, job_dir, how_to_go_on=f"holdfast resume {job_dir.path}")
        return cls(job, job_dir, dict(enumerate(done)))

    @property
    def key(self) -> str:
        """xxh3-128 (hex) over what was published: another one after a quarantine retry."""
        state = xxhash.xxh3_128(self.job.job_id.encode())
        for record in self.done.values():
            state.update(record.digest.encode())
        return state.hexdigest()

    @property
    def columns(self) -> tuple[str, ...]:
        return column_names(self.job.options)

    @property
    def num_embedded(self) -> int:
        return sum(record.num_embedded for record in self.done.values())

    @property
    def quarantined(self) -> Int64s:
        """The ordinals of the records that have no vector, ascending."""
        return np.array(
            sorted(entry.ordinal for record in self.done.values() for entry in record.quarantine), np.int64
        )

    def row_of(self, ordinal: int) -> int:
        """The record that was computed for this one: itself, unless it is a duplicate.

        Raises UsageError for one that the job does not have, or that is quarantined.
        """
        if ordinal >= self.job.counts.num_records:
            raise UsageError(f"record {ordinal} is none of this job's {self.job.counts.num_records:,}")
        if among(np.array([ordinal]), self.quarantined)[0]:
            raise UsageError(f"record {ordinal} is quarantined: it has no vector")
        for batch in read_duplicates(self.job, self.job_dir):
            here = np.flatnonzero(batch.column("ordinal").to_numpy() == ordinal)
            if len(here):
                return int(batch.column("first")[int(here[0])].as_py())
        return ordinal

    def check(self, tell: Callable[[float], None]) -> None:
        """Read every result once, telling the share. Raises Damage for one that was not published."""
        for number, (index, record) in enumerate(self.done.items(), start=1):
            require_published(self.job_dir, index, record)
            tell(number / len(self.done))

    def rows(self, column: str) -> Iterator[Rows]:
        """Every computed row by ordinal; duplicates have none. Raises Damage where none can be read."""
        for batch in computed_rows(self.job, self.job_dir, self.done):
            yield _rows(batch, column)

    def row(self, column: str, ordinal: int) -> Floats:
        """The vector of a record that was computed, [dim]. Raises Damage where there is none."""
        for shard in shards_with(self.job, np.array([ordinal])):
            for batch in iter_result(self.job_dir.results / self.done[shard.index].file):
                rows = _rows(batch, column)
                place = int(np.searchsorted(rows.ordinals, ordinal))
                if place < len(rows.ordinals) and rows.ordinals[place] == ordinal:
                    vector: Floats = rows.vectors[place]
                    return vector
        raise Damage(f"{self.job_dir.path}: record {ordinal} has no row any more")


def _rows(batch: pa.RecordBatch, column: str) -> Rows:
    vectors = as_matrix(batch.column(column)).astype(np.float32, copy=False)
    return Rows(batch.column("id"), batch.column("ordinal").to_numpy(), vectors)
