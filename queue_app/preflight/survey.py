"""One pass over the inputs of a job that is not made: what is in them, in numbers alone.

Of each record its length is kept, and for a few of them the text: millions of records are millions of
numbers.
"""

import re
import struct
from array import array
from collections import defaultdict
from dataclasses import dataclass, field
from time import monotonic

import numpy as np
import numpy.typing as npt
import xxhash

from queue_app.ingest.records import Dataset, Record
from queue_app.ingest.reuse import NOT_FOUND, Previous
from queue_app.job.quarantine_reasons import PLACE_IN_FILE
from queue_app.job.sequences import Hashes, find_firsts
from queue_app.job.spec import RECORD_COST, DatasetCounts, InputFile
from queue_app.preflight.stratified_sample import StratifiedSample

IDS_NAMED = 3
_PLACE = re.compile(rf" at position \d+|{PLACE_IN_FILE}")

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

    `lengths` has the characters of every record that can be embedded; `costs`, of those that a worker gets,
    is what a shard counts. Both are in the input's order. Twins and records that are reused cost nothing:
    `share` is that of the characters which are left, `own_share` that of all but the twins. `seconds` is how
    long the reading took.
    """

    inputs: tuple[InputFile, ...]
    counts: DatasetCounts
    lengths: Int64s
    costs: Int64s
    reused_costs: Int64s
    num_twins: int
    num_firsts: int
    share: float
    own_share: float
    num_id_bytes: int
    rejected: tuple[Rejected, ...]
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def num_bytes(self) -> int:
        """Of the input files, as they lie on the disk."""
        return sum(file.size_bytes for file in self.inputs)


def survey(dataset: Dataset, sample: StratifiedSample, *, dedup: bool, previous: Previous | None) -> Survey:
    """Read the dataset to its end, and fill the sample. Raises InputError."""
    started = monotonic()
    tally = _Tally(sample)
    for record in dataset:
        tally.add(record)
    lengths, costs, good = _numbers(tally.lengths), _numbers(tally.costs), _numbers(tally.good)
    hashes = _hashes(tally.hashes)
    rows = np.arange(len(good))
    firsts = find_firsts(hashes) if dedup else rows
    is_reused = (firsts == rows) & _known(previous, hashes)
    is_computed = (firsts == rows) & ~is_reused
    without = np.ones(len(costs), np.bool_)
    without[good[~is_computed]] = False
    return Survey(
        inputs=dataset.inputs,
        counts=dataset.counts,
        lengths=lengths,
        costs=costs[without],
        reused_costs=costs[good[is_reused]],
        num_twins=int((firsts != rows).sum()),
        num_firsts=len(np.unique(firsts[firsts != rows])),
        share=float(lengths[is_computed].sum() / max(1, lengths.sum())),
        own_share=float(lengths[firsts == rows].sum() / max(1, lengths.sum())),
        num_id_bytes=tally.num_id_bytes,
        rejected=tally.rejected(),
        seconds=monotonic() - started,
        notes=dataset.notes,
    )


def _known(previous: Previous | None, hashes: Hashes) -> npt.NDArray[np.bool_]:
    if previous is None:
        return np.zeros(len(hashes), np.bool_)
    known: npt.NDArray[np.bool_] = previous.find(hashes) != NOT_FOUND
    return known


@dataclass(slots=True)
class _Tally:
    """`good` are the places of the records that can be embedded, `hashes` two numbers for each of them."""

    sample: StratifiedSample
    good: "array[int]" = field(default_factory=lambda: array("q"))
    hashes: "array[int]" = field(default_factory=lambda: array("Q"))
    lengths: "array[int]" = field(default_factory=lambda: array("q"))
    costs: "array[int]" = field(default_factory=lambda: array("q"))
    num_id_bytes: int = 0
    _ids: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    _counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def add(self, record: Record) -> None:
        self.costs.append(_num_bytes(record.sequence) + RECORD_COST)
        self.num_id_bytes += _num_bytes(record.id)
        if record.problem is None:
            self.good.append(record.ordinal)
            self.hashes.extend(struct.unpack("<QQ", xxhash.xxh3_128_digest(record.sequence.encode())))
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


def _hashes(halves: "array[int]") -> Hashes:
    return np.frombuffer(halves, np.uint64).reshape(-1, 2) if len(halves) else np.empty((0, 2), np.uint64)


def _numbers(values: "array[int]") -> Int64s:
    return np.frombuffer(values, np.int64) if len(values) else np.empty(0, np.int64)
