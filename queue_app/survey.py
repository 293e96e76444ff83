"""One pass over the inputs of a job that is not made: what is in them, in numbers alone.

Of each record its length is kept, and for a few of them the text: millions of records are millions of
numbers.
"""

import re
from array import array
from collections import defaultdict
from dataclasses import dataclass, field
from time import monotonic

import numpy as np
import numpy.typing as npt

from queue_app.dataset import Dataset, Record
from queue_app.job import DatasetCounts, InputFile
from queue_app.sample import StratifiedSample
from queue_app.shards import RECORD_COST

IDS_NAMED = 3
_PLACE = re.compile(r" at position \d+")

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Rejected:
    """The records that are set aside for one reason, and the first of them by their ids."""

    reason: str
    num_records: int
    first_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """What the inputs hold.

    `lengths` has the characters of every record that can be embedded; `costs`, of all records, is what a
    shard counts. Both are in the input's order. `seconds` is how long the reading took.
    """

    inputs: tuple[InputFile, ...]
    counts: DatasetCounts
    lengths: Int64s
    costs: Int64s
    num_id_bytes: int
    rejected: tuple[Rejected, ...]
    seconds: float

    @property
    def num_bytes(self) -> int:
        """Of the input files, as they lie on the disk."""
        return sum(file.size_bytes for file in self.inputs)


def survey(dataset: Dataset, sample: StratifiedSample) -> Survey:
    """Read the dataset to its end, and fill the sample. Raises InputError."""
    started = monotonic()
    tally = _Tally(sample)
    for record in dataset:
        tally.add(record)
    return Survey(
        inputs=dataset.inputs,
        counts=dataset.counts,
        lengths=_numbers(tally.lengths),
        costs=_numbers(tally.costs),
        num_id_bytes=tally.num_id_bytes,
        rejected=tally.rejected(),
        seconds=monotonic() - started,
    )


@dataclass(slots=True)
class _Tally:
    sample: StratifiedSample
    lengths: "array[int]" = field(default_factory=lambda: array("q"))
    costs: "array[int]" = field(default_factory=lambda: array("q"))
    num_id_bytes: int = 0
    _ids: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    _counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def add(self, record: Record) -> None:
        self.costs.append(_num_bytes(record.sequence) + RECORD_COST)
        self.num_id_bytes += _num_bytes(record.id)
        if record.problem is None:
            self.lengths.append(len(record.sequence))
            self.sample.add(record.sequence)
        else:
            self._reject(record.id, record.problem)

    def _reject(self, record_id: str, problem: str) -> None:
        reason = _PLACE.sub("", problem)  # or every record would have a reason of its own
        self._counts[reason] += 1
        if self._counts[reason] <= IDS_NAMED:
            self._ids[reason].append(record_id)

    def rejected(self) -> tuple[Rejected, ...]:
        """The most frequent reason first."""
        by_count = sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))
        return tuple(Rejected(reason, count, tuple(self._ids[reason])) for reason, count in by_count)


def _num_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _numbers(values: "array[int]") -> Int64s:
    return np.frombuffer(values, np.int64) if len(values) else np.empty(0, np.int64)
