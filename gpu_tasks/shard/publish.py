"""From a shard's committed blocks to its published result: result file, the store's done record, done file.

Every block is verified before anything is written of any of them; a damaged one is computed again. A row
stays a view of LMDB's pages, and nothing is copied before its portion of the result is.
"""

import itertools
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from checkpoint import CheckpointStore
from checkpoint.records import DoneRecord, QuarantineEntry
from gpu_tasks.errors import JobHopeless
from gpu_tasks.inference.batch_plan import BatchPlan
from gpu_tasks.inference.model import EmbeddingModel
from gpu_tasks.inference.rows import Offsets, Ordinals, Vectors
from gpu_tasks.inference.windows import combine_windows, join_windows
from gpu_tasks.shard.collapse import sharing_one_vector, spread
from queue_app.coordination.states import Lease
from queue_app.errors import Damage
from queue_app.job.directory import JobDir
from queue_app.job.done_records import create, current_generation, published_result, reopen
from queue_app.job.readouts import column_names
from queue_app.job.result_files import PORTION_BYTES, embedding_columns, result_rows, write_result
from queue_app.job.shard_files import ShardRecords
from queue_app.job.spec import Job

log = logging.getLogger(__name__)

Row: TypeAlias = tuple[int, Vectors]
"""A segment: the ordinal of its record, and its vectors, [1, dim], or [L, dim] where rows are ragged."""


def find_published(store: CheckpointStore, job_dir: JobDir, lease: Lease) -> tuple[int, DoneRecord | None]:
    """The generation that a result of this shard is for, and an earlier attempt's, where it is whole.

    A record that counts and whose result is not whole is given up for a next generation. One that only the
    store has, as its attempt came no farther, is good for the generation that it was written in.
    """
    seen = current_generation(job_dir, lease.shard)
    while seen.is_taken:
        if seen.record is not None and published_result(job_dir, seen.record) is not None:
            return seen.number, seen.record
        log.warning("published result damaged or missing %s generation=%d", lease.label, seen.number)
        reopen(job_dir, lease.shard, seen)
        seen = current_generation(job_dir, lease.shard)
    record = store.done_record()
    if record is None:
        return seen.number, None
    if record.generation == seen.number and published_result(job_dir, record) is not None:
        return seen.number, record
    log.warning("result of the store is not to be published %s file=%s", lease.label, record.file)
    store.drop((), token=lease.token)
    return seen.number, None


def settle(store: CheckpointStore, job_dir: JobDir, lease: Lease, record: DoneRecord) -> DoneRecord:
    """Create the shard's done record, or adopt the one that was created before; answers the one that counts.

    Where another's result counts, the store is told first, so that it never names a file that is gone.

    Raises:
        StaleToken: the shard was reopened meanwhile, or the lease went to somebody else.
    """
    counting = create(job_dir, lease.shard, record)
    if counting != record:
        log.warning("another result counts %s file=%s instead of=%s", lease.label, counting.file, record.file)
        store.set_done(counting, token=lease.token)
        if counting.file != record.file:
            (job_dir.results / record.file).unlink(missing_ok=True)
    return counting


@dataclass(frozen=True, slots=True)
class Publisher:
    """Publishes a shard all of whose batches are committed. `rejected` are the records without a batch."""

    job: Job
    job_dir: JobDir
    lease: Lease
    model: EmbeddingModel
    plan: BatchPlan
    records: ShardRecords
    rejected: Sequence[QuarantineEntry]
    allow_same_vectors: bool
    generation: int

    def publish(self, store: CheckpointStore) -> DoneRecord | None:
        """The done record; None: damaged batches were dropped instead, and are to be computed again.

        Raises:
            StaleToken: the lease went to somebody else; the file that was written counts for nothing.
            Damage: what is committed is not what the shard holds.
            DiskFull: no room for the result; what is committed stays.
            JobHopeless: different sequences have the same vector.
        """
        entries = sorted([*self.rejected, *store.quarantine()], key=lambda entry: entry.ordinal)
        left_out = {entry.ordinal for entry in entries}
        embedded = sorted(set(self.records.ordinals.tolist()) - left_out)
        path = self.job_dir.result(self.lease.shard.index, self.lease.token)
        with store.snapshot() as snapshot:
            blocks = dict(snapshot.scan())
            sound = [block for block in blocks.values() if block is not None]
            if len(sound) == len(blocks):
                rows = by_record(row for block in sound for row in block.matrices() if row[0] not in left_out)
                # Not in a function that is given the rows: reports of an error show arguments, and these
                # cannot be looked at once the snapshot has ended.
                if {ordinal for ordinal, _ in rows} != set(embedded):
                    label = self.lease.label
                    raise Damage(f"{label}: the committed rows are not the shard's records; verify the job")
                digest = self._write(path, rows, embedded)
        if len(sound) < len(blocks):
            damaged = [batch_idx for batch_idx, block in blocks.items() if block is None]
            log.warning("damaged batches dropped %s batches=%s", self.lease.label, damaged)
            store.drop(damaged, token=self.lease.token)
            return None
        num_embedded = self.records.num_records(np.array(embedded, np.uint64))
        num_records = self.lease.shard.num_records
        record = DoneRecord(
            file=path.name,
            digest=digest,
            num_records=num_records,
            num_embedded=num_embedded,
            quarantine=tuple(entries),
            kinds=store.kinds(),
            job=self.job.job_id,
            generation=self.generation,
        )
        store.set_done(record, token=self.lease.token)
        return record

    def _write(self, path: Path, rows: Sequence[Row], embedded: Sequence[int]) -> str:
        if not self.allow_same_vectors:
            self._refuse_same_vectors(rows, embedded)
        schema = self._result_rows([]).schema
        return write_result(path, schema, map(self._result_rows, cut_portions(rows, PORTION_BYTES)))

    def _refuse_same_vectors(self, rows: Sequence[Row], embedded: Sequence[int]) -> None:
        """Raises JobHopeless where most of the shard's different sequences have one and the same vector."""
        tokens: dict[int, bytes] = dict.fromkeys(spread(embedded), b"")
        for ordinal, ids in self.plan.ids():
            if ordinal in tokens:
                tokens[ordinal] += ids.tobytes()
        different = {*{content: ordinal for ordinal, content in tokens.items()}.values()}
        least = 2 if self.model.readout.is_contacts else 1  # one residue has the same map, whichever it is
        told_apart = [row for row in rows if row[0] in different and len(row[1]) >= least]
        portions = cut_portions(told_apart, PORTION_BYTES)
        for portion in itertools.islice(portions, 1):
            ordinals, embeddings, offsets = self._combined(portion)
            if shared := sharing_one_vector(embeddings, offsets):
                one, other, *_ = self._ids(ordinals[shared])
                raise JobHopeless(
                    f"{len(shared):,} of {len(ordinals):,} different sequences have one and the same vector, "
                    f"{one} and {other} among them: the model, or the layer or pooling that was asked for, "
                    "does not tell them apart; --allow-same-vectors stores it all the same"
                )

    def _result_rows(self, portion: Sequence[Row]) -> pa.RecordBatch:
        ordinals, embeddings, offsets = self._combined(portion)
        columns = embedding_columns(embeddings, offsets, column_names(self.job.options))
        return result_rows(self._ids(ordinals), ordinals, columns)

    def _ids(self, ordinals: Ordinals) -> list[str]:
        return [self.records.ids[self.records.row(ordinal)] for ordinal in ordinals.tolist()]

    def _combined(self, portion: Sequence[Row]) -> tuple[Ordinals, Vectors, Offsets | None]:
        """The rows of a portion, its windows combined."""
        ordinals = np.array([ordinal for ordinal, _ in portion], np.uint64)
        rows = [vectors for _, vectors in portion]
        nothing = np.empty((0, self.model.dim), np.dtype(self.job.options.store_dtype))
        if self.model.readout.is_ragged:
            return join_windows(ordinals, rows, nothing=nothing)
        combined = combine_windows(
            ordinals,
            rows,
            self.model.readout.side_by_side,
            lambda ordinal: self.model.left.pooled(*self.plan.owned(ordinal)),
            self.model.finish,
            nothing=nothing,
        )
        return *combined, None


def by_record(rows: Iterable[Row]) -> list[Row]:
    """Ascending by ordinal; the windows of a record stay in the order in which they come."""
    return sorted(rows, key=itemgetter(0))


def cut_portions(rows: Sequence[Row], most_bytes: int) -> Iterator[list[Row]]:
    """Cut sorted rows between records, none of which is ever parted.

    A portion is larger than `most_bytes` only where it is a single record that is.
    """
    portion: list[Row] = []
    num_bytes = 0
    for _, windows in itertools.groupby(rows, key=itemgetter(0)):
        record = list(windows)
        record_bytes = sum(vectors.nbytes for _, vectors in record)
        if portion and num_bytes + record_bytes > most_bytes:
            yield portion
            portion, num_bytes = [], 0
        portion += record
        num_bytes += record_bytes
    if portion:
        yield portion
