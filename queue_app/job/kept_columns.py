"""What stays with a record beside its id: kept.parquet, which has a row for each record of the input.

It is written once, at submit, by ordinal. Records that repeat others or are quarantined have rows in it, too.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from queue_app.array_types import Int64s
from queue_app.job.directory import JobDir
from queue_app.job.duplicates import check_digest
from queue_app.job.spec import Job


class KeptColumns:
    """The columns of a job, memory-mapped; of a few rows no more is read than the groups they lie in.

    Several threads may ask at a time.
    """

    def __init__(self, path: Path) -> None:
        self._file = pq.ParquetFile(path, memory_map=True)
        self.schema: pa.Schema = self._file.schema_arrow
        """Each column is string, int64, float64 or bool; null where a record has no value."""
        sizes = [
            self._file.metadata.row_group(each).num_rows for each in range(self._file.metadata.num_row_groups)
        ]
        self._starts = np.cumsum([0, *sizes])
        self._last: tuple[int, Sequence[str], pa.Table] | None = None
        self._lock = Lock()

    @property
    def names(self) -> tuple[str, ...]:
        """In the order in which outputs have them."""
        return tuple(self.schema.names)

    def __len__(self) -> int:
        """The number of records of the input."""
        return int(self._starts[-1])

    def rows(self, ordinals: Int64s, names: Sequence[str] | None = None) -> pa.Table:
        """The rows of these records, in this order; all columns, or those that are named.

        Raises IndexError for an ordinal that no record has.
        """
        names = self.names if names is None else tuple(names)
        if len(ordinals) and not 0 <= ordinals.min() <= ordinals.max() < len(self):
            raise IndexError(f"no record {int(ordinals.max())} among {len(self)}")
        groups = np.searchsorted(self._starts, ordinals, side="right") - 1
        order = np.argsort(groups, kind="stable")
        cuts = np.flatnonzero(np.diff(groups[order])) + 1
        wanted = [part for part in np.split(order, cuts) if len(part)]
        parts = [self._take(int(groups[part[0]]), ordinals[part], names) for part in wanted]
        empty = pa.schema([self.schema.field(name) for name in names]).empty_table()
        found = pa.concat_tables([empty, *parts])
        return found if len(wanted) < 2 else found.take(pa.array(np.argsort(order)))

    def tables(self, names: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """All rows by ordinal, some thousand at a time; all columns, or those that are named."""
        for group in range(len(self._starts) - 1):
            yield self._group(group, self.names if names is None else tuple(names))

    def _take(self, group: int, ordinals: Int64s, names: Sequence[str]) -> pa.Table:
        table = self._group(group, names)
        first, places = ordinals[0], ordinals - self._starts[group]
        if ordinals[-1] - first + 1 == len(ordinals) and (np.diff(ordinals) == 1).all():
            return table.slice(places[0], len(places))
        return table.take(pa.array(places))

    def _group(self, group: int, names: Sequence[str]) -> pa.Table:
        """Read, or remembered: who reads in order asks for the same one many times."""
        with self._lock:
            if self._last is None or self._last[:2] != (group, names):
                found = self._file.read_row_group(group, columns=[*names], use_threads=False)
                self._last = group, names, found.select([*names])
            return self._last[2]

    def close(self) -> None:
        """Tables that were given stay."""
        self._file.close()


def open_kept(job: Job, job_dir: JobDir) -> KeptColumns | None:
    """What a job keeps; None where that is nothing. Raises Damage when the file is not the job's."""
    if job.kept is None:
        return None
    check_digest(job_dir.kept, job.kept.digest)
    return KeptColumns(job_dir.kept)
