"""One pass over the inputs of a job that is not made: what is in them, in numbers, and a few of the texts."""

import re
from array import array
from collections import Counter, defaultdict
from dataclasses import dataclass
from time import monotonic

import numpy as np

from queue_app.array_types import Int64s
from queue_app.ingest.census import Census, Rows
from queue_app.ingest.records import Dataset
from queue_app.ingest.reuse import Previous
from queue_app.job.duplicates import NOT_FOUND
from queue_app.job.quarantine_reasons import PLACE_IN_FILE
from queue_app.job.spec import DatasetCounts, InputFile
from queue_app.preflight.stratified_sample import StratifiedSampler

IDS_NAMED = 3
_PLACE = re.compile(rf" at position \d+|{PLACE_IN_FILE}")


@dataclass(frozen=True, slots=True)
class Rejected:
    """The records that are quarantined for one reason, and the first of them by their ids."""

    reason: str
    num_records: int
    first_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """What the inputs hold.

    `lengths` has the characters of every record that can be embedded, in the input's order. Workers get the
    `computed` rows. Duplicates and `reused` rows cost nothing: `share` is that of the characters which are
    left, `own_share` that of all but the duplicates. `seconds` is how long the reading took.
    """

    inputs: tuple[InputFile, ...]
    counts: DatasetCounts
    lengths: Int64s
    computed: Rows
    reused: Rows
    num_duplicates: int
    num_firsts: int
    share: float
    own_share: float
    num_id_bytes: int
    num_kept_bytes: int
    rejected: tuple[Rejected, ...]
    seconds: float
    notes: tuple[str, ...]

    @property
    def num_bytes(self) -> int:
        """The size of the input files, as they lie on the disk."""
        return sum(file.size_bytes for file in self.inputs)


def survey(dataset: Dataset, sample: StratifiedSampler, *, dedup: bool, previous: Previous | None) -> Survey:
    """Read the dataset to its end, and fill the sample. Raises InputError."""
    started = monotonic()
    census, characters, num_id_bytes, num_kept_bytes = Census(), array("q"), 0, 0
    rejections = _Rejections()
    for record in dataset:
        census.add(record)
        num_id_bytes += len(record.id.encode())
        num_kept_bytes += sum(len(str(value).encode(errors="replace")) for value in record.kept.values())
        if record.problem is None:
            characters.append(len(record.sequence))
            sample.add(record.sequence)
        else:
            rejections.add(record.id, record.problem)
    lengths = np.asarray(characters)
    firsts = census.firsts(dedup=dedup)
    rows = census.rows(firsts, previous.find if previous else None)
    computed, reused = rows[rows.sources == NOT_FOUND], rows[rows.sources != NOT_FOUND]
    duplicates = firsts[firsts != np.arange(len(firsts))]
    return Survey(
        inputs=dataset.inputs,
        counts=census.counts,
        lengths=lengths,
        computed=computed,
        reused=reused,
        num_duplicates=len(duplicates),
        num_firsts=len(np.unique(duplicates)),
        share=_share(lengths, census, computed),
        own_share=_share(lengths, census, rows),
        num_id_bytes=num_id_bytes,
        num_kept_bytes=num_kept_bytes,
        rejected=rejections.by_count(),
        seconds=monotonic() - started,
        notes=dataset.notes,
    )


def _share(lengths: Int64s, census: Census, rows: Rows) -> float:
    wanted = np.zeros(len(census.good), np.bool_)
    wanted[rows.ordinals] = True
    return float(lengths[wanted[census.good]].sum() / max(1, lengths.sum()))


class _Rejections:
    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._ids: dict[str, list[str]] = defaultdict(list)

    def add(self, record_id: str, problem: str) -> None:
        reason = _PLACE.sub("", problem)  # or every record would have a reason of its own
        self._counts[reason] += 1
        if self._counts[reason] <= IDS_NAMED:
            self._ids[reason].append(record_id)

    def by_count(self) -> tuple[Rejected, ...]:
        """The most frequent reason first."""
        by_count = sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))
        return tuple(Rejected(reason, count, tuple(self._ids[reason])) for reason, count in by_count)
