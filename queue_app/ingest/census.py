"""What one pass over the records counts, for a job and for a plan: a few numbers of each, and no texts."""

from array import array
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xxhash

from queue_app.array_types import Hashes, Int64s
from queue_app.job.duplicates import NOT_FOUND, find_firsts
from queue_app.job.shard_files import Record
from queue_app.job.shard_table import Shard
from queue_app.job.spec import RECORD_COST, DatasetCounts

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Records that are computed or copied, ascending; each answers for `copies` records of its sequence.

    `sources` has the row of an earlier job that a vector is copied from, or NOT_FOUND.
    """

    ordinals: Int64s
    copies: Int64s
    costs: Int64s
    sources: Int64s

    def __len__(self) -> int:
        return len(self.ordinals)

    def __getitem__(self, wanted: Bools | slice) -> "Rows":
        return Rows(self.ordinals[wanted], self.copies[wanted], self.costs[wanted], self.sources[wanted])

    def as_shard(self, job_id: str, index: int, digest: str, *, reused: bool) -> Shard:
        return Shard(
            job_id,
            index,
            num_records=int(self.copies.sum()),
            cost=int(self.costs.sum()),
            first_ordinal=int(self.ordinals[0]),
            digest=digest,
            num_twins=int((self.copies - 1).sum()),
            reused=reused,
        )


class Census:
    """Add every record, then ask. The arrays have a row for each record, by ordinal."""

    def __init__(self) -> None:
        self._costs, self._id_hashes = array("q"), array("Q")
        self._good, self._hashes = bytearray(), bytearray()

    def add(self, record: Record) -> None:
        sequence = record.sequence.encode()
        self._costs.append(len(sequence) + RECORD_COST)
        self._good.append(record.problem is None)
        self._hashes += xxhash.xxh3_128_digest(sequence)
        self._id_hashes.append(xxhash.xxh3_64_intdigest(record.id.encode()))

    @property
    def costs(self) -> Int64s:
        """What each counts in a shard, in characters."""
        return np.asarray(self._costs)

    @property
    def good(self) -> Bools:
        """False where there is a problem."""
        return np.asarray(self._good).view(np.bool_)

    @property
    def hashes(self) -> Hashes:
        return np.asarray(self._hashes).view(np.uint64).reshape(-1, 2)

    @property
    def counts(self) -> DatasetCounts:
        num_rejected = len(self._good) - sum(self._good)
        ids = _num_repeats(np.asarray(self._id_hashes))
        return DatasetCounts(len(self._good), num_rejected, ids, _num_repeats(self.hashes[:, 0]))

    def firsts(self, *, dedup: bool) -> Int64s:
        """Per record the first one of its sequence: itself, where `dedup` is false or it has a problem."""
        good = np.flatnonzero(self.good)
        found = good[find_firsts(self.hashes[good])] if dedup else good
        firsts = np.arange(len(self._good))
        firsts[good] = found
        return firsts

    def rows(self, firsts: Int64s, find: Callable[[Hashes], Int64s] | None) -> Rows:
        """The records that are their own firsts. `find` tells which row of an earlier job has a sequence."""
        ordinals = np.flatnonzero(firsts == np.arange(len(firsts)))
        copies = np.bincount(firsts, minlength=len(firsts))[ordinals]
        sources = np.full(len(ordinals), NOT_FOUND)
        if find is not None:
            good = self.good[ordinals]
            sources[good] = find(self.hashes[ordinals[good]])
        return Rows(ordinals, copies, self.costs[ordinals], sources)


def _num_repeats(hashes: npt.NDArray[np.uint64]) -> int:
    """How many stood there before. Eight bytes a record, where a set would take sixty."""
    return len(hashes) - len(np.unique(hashes))
