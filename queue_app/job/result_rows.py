"""The published rows of a job in the order of its input: shards side by side, duplicates in their places.

Every stream ascends by ordinal and is read a batch at a time; of firsts that have duplicates, which may come
much later, the vectors are put aside on disk.
"""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from checkpoint.records import DoneRecord
from queue_app.array_types import Int64s
from queue_app.host.spilled_rows import SpilledRows
from queue_app.job.directory import JobDir
from queue_app.job.duplicates import all_firsts, read_duplicates
from queue_app.job.readouts import is_ragged
from queue_app.job.result_files import embeddings_of, iter_result
from queue_app.job.spec import Job

Batches = Iterator[pa.RecordBatch]
ROWS_AT_ONCE = 4_096
RAGGED_AT_ONCE = 32
"""Duplicates whose vectors are in memory at once; a ragged row may have a thousand of them."""


def in_input_order(job: Job, job_dir: JobDir, done: Mapping[int, DoneRecord]) -> Batches:
    """Every embedded record, duplicates included, as batches of id, ordinal and embedding.

    Raises:
        Damage: a result or twins.arrow cannot be read.
        DiskFull: no room for the vectors that duplicates wait for.
    """
    firsts = computed_rows(job, job_dir, done)
    if job.twins is None:
        yield from firsts
        return
    with SpilledRows(job_dir.aside) as file:
        rows_at_once = RAGGED_AT_ONCE if is_ragged(job.options) else ROWS_AT_ONCE
        duplicates = WaitingDuplicates(read_duplicates(job, job_dir, rows_at_once))
        yield from place_duplicates(firsts, duplicates, all_firsts(job, job_dir), file)


def computed_rows(job: Job, job_dir: JobDir, done: Mapping[int, DoneRecord]) -> Batches:
    """The rows of the published results alone. Shards of reused vectors lie between the others."""

    def rows(*, reused: bool) -> Batches:
        for shard in job.shards:
            if shard.reused == reused and shard.index in done:
                yield from iter_result(job_dir.results / done[shard.index].file)

    return merged([rows(reused=False), rows(reused=True)])


def merged(streams: Sequence[Batches]) -> Batches:
    """One ascending stream of several."""
    heads = {stream: head for stream in map(_not_empty, streams) if (head := next(stream, None)) is not None}
    while heads:
        end = min(_last(head) for head in heads.values())
        passed = []
        for stream, head in list(heads.items()):
            num_passed = _num_until(head, end)
            passed.append(head.slice(0, num_passed))
            rest = head.slice(num_passed) if num_passed < head.num_rows else next(stream, None)
            if rest is None:
                del heads[stream]
            else:
                heads[stream] = rest
        yield from _woven(passed)


def place_duplicates(
    computed: Batches, duplicates: "WaitingDuplicates", firsts: Int64s, file: SpilledRows
) -> Batches:
    """The rows of both. Duplicates of a first that has no row have none either.

    `firsts` are the ordinals that have duplicates, ascending; their vectors are put aside in `file`.
    """
    shared = _SharedRows(firsts, file)
    for rows in computed:
        shared.put_aside(rows)
        for due in duplicates.until(_last(rows)):
            num_passed = _num_until(rows, _last(due))
            yield from _woven([rows.slice(0, num_passed), *shared.rows_of(due)])
            rows = rows.slice(num_passed)
        if rows.num_rows:
            yield rows
    for due in duplicates.until(None):
        yield from shared.rows_of(due)


def among(ordinals: Int64s, known: Int64s) -> npt.NDArray[np.bool_]:
    """Which of the ordinals are known; `known` ascends."""
    places = np.searchsorted(known, ordinals)
    there = places < len(known)
    there[there] = known[places[there]] == ordinals[there]
    return there


class WaitingDuplicates:
    """The duplicates that were not asked for yet."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        self._head = next(batches, None)

    def until(self, ordinal: int | None) -> Batches:
        """The duplicates up to an ordinal, or all."""
        while self._head is not None:
            num_due = self._head.num_rows if ordinal is None else _num_until(self._head, ordinal)
            if num_due:
                yield self._head.slice(0, num_due)
            if num_due < self._head.num_rows:
                self._head = self._head.slice(num_due)
                return
            self._head = next(self._batches, None)


class _SharedRows:
    """The rows of records that have duplicates, put aside as they pass: a duplicate always comes later."""

    def __init__(self, firsts: Int64s, file: SpilledRows) -> None:
        self._firsts = firsts
        self._file = file
        self._ordinals = array("q")
        self._schema: pa.Schema | None = None

    def put_aside(self, rows: pa.RecordBatch) -> None:
        ordinals = _ordinals(rows)
        has_duplicates = among(ordinals, self._firsts)
        self._schema = rows.schema
        self._ordinals.extend(ordinals[has_duplicates].tolist())
        self._file.append(embeddings_of(rows).filter(pa.array(has_duplicates)))

    def rows_of(self, duplicates: pa.RecordBatch) -> list[pa.RecordBatch]:
        """The rows of these duplicates, at most one batch, none where no first has a row."""
        firsts, ordinals = duplicates.column("first").to_numpy().astype(np.int64), np.asarray(self._ordinals)
        there = among(firsts, ordinals)
        if not there.any():
            return []
        embedded = duplicates.filter(pa.array(there))
        own = [embedded.column("id"), embedded.column("ordinal").cast(pa.int64())]
        shared = self._file.take(np.searchsorted(ordinals, firsts[there]))
        return [pa.record_batch([*own, *shared.columns], schema=self._schema)]


def _woven(parts: Iterable[pa.RecordBatch]) -> list[pa.RecordBatch]:
    """The rows of all parts by ordinal, in one batch; none where there are no rows."""
    parts = [part for part in parts if part.num_rows]
    if len(parts) < 2:
        return parts
    rows = pa.concat_batches(parts)
    return [rows.take(pa.array(np.argsort(_ordinals(rows), kind="stable")))]


def _not_empty(stream: Batches) -> Batches:
    return (batch for batch in stream if batch.num_rows)


def _ordinals(rows: pa.RecordBatch) -> Int64s:
    ordinals: Int64s = rows.column("ordinal").to_numpy()
    return ordinals


def _last(rows: pa.RecordBatch) -> int:
    return int(rows.column("ordinal")[-1].as_py())


def _num_until(rows: pa.RecordBatch, ordinal: int) -> int:
    return int(np.searchsorted(_ordinals(rows), ordinal, side="right"))
