"""One leased shard, from its Arrow file to its published result. Where inference meets the store.

The order of the last steps is what makes a crash harmless: result file, done record in the store (fenced
by the token), done file, manifest. Whoever comes later finds the farthest step that was reached and goes
on from there.
"""

import contextlib
import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from checkpoint import Block, CheckpointStore, CheckpointTrigger, CheckpointWriter
from checkpoint.flight_log import FlightLog, Patience
from checkpoint.records import DoneRecord, QuarantineEntry
from checkpoint.writer import PENDING_BYTES
from gpu_tasks.errors import JobHopeless
from gpu_tasks.inference.batch_plan import BatchPlan
from gpu_tasks.inference.model import EmbeddingModel
from gpu_tasks.inference.planner import plan_batches
from gpu_tasks.inference.rows import Offsets, Ordinals, Vectors, select_rows
from gpu_tasks.inference.runner import AsyncInferenceRunner, InferenceResult
from gpu_tasks.inference.windows import combine_windows, join_windows
from gpu_tasks.shard.collapse import sharing_one_vector, spread
from gpu_tasks.shard.guarded_run import GuardedRun
from gpu_tasks.shard.observers import Meter
from gpu_tasks.shard.portions import Row, by_record, cut_portions
from gpu_tasks.shard.quarantined_records import (
    accused_entries,
    mostly_unknown,
    not_finite_entries,
    rejected_entries,
)
from queue_app.coordination.states import Lease
from queue_app.coordination.worker_figures import Pace
from queue_app.errors import Damage
from queue_app.host.durable_files import write_durably
from queue_app.host.memory import give_memory_back
from queue_app.job.directory import JobDir
from queue_app.job.done_records import published_result, read_done
from queue_app.job.duplicates import duplicates_of
from queue_app.job.history import AttemptLog
from queue_app.job.quarantine import unknown_reason
from queue_app.job.readouts import column_names
from queue_app.job.result_files import PORTION_BYTES, embedding_columns, result_rows, write_result
from queue_app.job.shard_files import ShardRecords, read_shard
from queue_app.job.spec import Job, Progress
from queue_app.settings import RuntimeConfig
from queue_app.worker.metrics.counters import Tally

log = logging.getLogger(__name__)

RAGGED_COMMIT_BYTES = 8 << 20
"""An fsync costs little beside writing so much."""
UNKNOWN_LEAST = 8
"""Records of a shard: fewer are no sign."""


@dataclass(frozen=True, slots=True)
class ShardRun:
    """Everything that one attempt at a shard needs.

    `report` is called with what is committed, from the commit thread; `should_stop` is asked before
    each batch; `load_exact` loads the same model in float32, for what is not finite otherwise. `pace` counts
    what is computed, `tally` what is committed; `history` keeps what the attempt went through.
    """

    job: Job
    job_dir: JobDir
    lease: Lease
    model: EmbeddingModel
    config: RuntimeConfig
    report: Callable[[Progress], None]
    should_stop: Callable[[], bool]
    load_exact: Callable[[], EmbeddingModel] | None = None
    pace: Pace = field(default_factory=Pace)
    tally: Tally = field(default_factory=Tally)
    history: AttemptLog | None = None

    @property
    def label(self) -> str:
        return f"job={self.job.job_id} shard={self.lease.shard.index} token={self.lease.token}"

    @property
    def store_path(self) -> Path:
        return self.job_dir.checkpoint(self.lease.shard.index, self.job.job_id, self.config.scratch)

    def run(self) -> DoneRecord | None:
        """Compute what is not committed yet, and publish. None: stopped early, all of it committed.

        Raises:
            StaleToken: the lease went to somebody else; nothing was written after that.
            Damage: the shard's file is not the one that was submitted.
            DiskFull: no room for the next commit; what is committed stays.
            JobHopeless: most records are unknown to the model, or different ones have the same vector.
        """
        self._note()
        records = read_shard(self.job_dir.shard(self.lease.shard.index), self.lease.shard)
        plan = self.plan(records)
        self._refuse_unknown(plan, records)
        self._note(
            num_tokens=plan.num_tokens, num_batches=plan.num_batches, num_long=plan.num_long, fill=plan.fill
        )
        with CheckpointStore.open(
            self.store_path,
            job_digest=bytes.fromhex(self.job.digest),
            plan=plan.fingerprint,
            token=self.lease.token,
        ) as store:
            published = self._published(store)
            while published is None:
                self._compute(plan, records, store)
                if len(store.committed()) < plan.num_batches:
                    return None
                give_memory_back()  # before publishing wants some
                if not self._drop_damaged(store):
                    published = self._publish(plan, records, store)
            write_durably(self.job_dir.done(self.lease.shard.index), published.encode())
        return published

    def discard_store(self) -> None:
        """The published result takes the place of the checkpoints, unless they are to be kept."""
        keep = self.config.keep_checkpoints
        if not (self.job.run.keep_checkpoints if keep is None else keep):
            CheckpointStore.discard(self.store_path)

    def _note(self, **news: float) -> None:
        if self.history is not None:
            self.history.note(**news)

    # ---- planning

    def plan(self, records: ShardRecords) -> BatchPlan:
        good = [row for row, problem in enumerate(records.problems) if problem is None]
        options = self.job.options
        tokens = self.model.tokenize([records.sequences[row] for row in good])
        unknown = mostly_unknown(self.model, records.ordinals[good], tokens)
        known = [place for place, row in enumerate(good) if int(records.ordinals[row]) not in unknown]
        good = [good[place] for place in known]
        plan = plan_batches(
            [tokens[place] for place in known],
            records.ordinals[good],
            prefix=self.model.prefix,
            suffix=self.model.suffix,
            toks_per_batch=options.toks_per_batch,
            max_length=options.max_length,
            long=options.long,
            window_overlap=options.window_overlap,
            copies=records.copies[good],
        )
        return replace(plan, unknown=unknown)

    def _refuse_unknown(self, plan: BatchPlan, records: ShardRecords) -> None:
        """A tokenizer that only workers have was not asked at submit."""
        num_unknown, num_rows = len(plan.unknown), len(records.ids)
        if self.job.model.tokens.kind == "slow" and num_rows >= UNKNOWN_LEAST and 2 * num_unknown > num_rows:
            (first, counts), *_ = plan.unknown.items()
            raise JobHopeless(
                f"{num_unknown:,} of {num_rows:,} records would be set aside; the first is "
                f"{records.ids[records.row(first)]}: {unknown_reason(*counts)}"
            )

    # ---- computing

    def _compute(self, plan: BatchPlan, records: ShardRecords, store: CheckpointStore) -> None:
        committed = set(store.committed())
        quarantined = {entry.ordinal for entry in store.quarantine()}
        rejected = len(self._rejected(plan, records))

        def note_commit(batches: Sequence[int]) -> None:
            committed.update(batches)
            progress = committed_progress(plan, committed, len(quarantined), rejected)
            self.report(progress)
            meter.committed(batches, progress, writer.times.latest)
            self._note()
            log.info("committed %s batches=%s", self.label, ",".join(map(str, sorted(batches))))

        log.info(
            "computing %s batches=%d tokens=%d fill=%.3f resumed=%d",
            self.label, plan.num_batches, plan.num_tokens, plan.fill, len(committed),
        )  # fmt: skip
        resumed = committed_progress(plan, committed, len(quarantined), rejected)
        self.report(resumed)
        patience = Patience(self.config.probe_after_deaths, self.config.quarantine_after_deaths)
        flight = FlightLog.open(self.store_path / "flight.json", patience)
        runner = AsyncInferenceRunner(self.model, store_dtype=self.job.options.store_dtype)
        meter = Meter(self.tally, plan, runner.timings, resumed)
        run = GuardedRun(
            runner=runner,
            plan=plan,
            flight=flight,
            committed=frozenset(committed),
            excluded=frozenset(quarantined),
            should_stop=self.should_stop,
            exact=self._exact_runner if self.load_exact else None,
            wide=self._wide_runner if self.job.options.store_dtype == "float16" else None,
        )
        self.pace.begin(plan.fill)
        with self._writer(store, note_commit) as writer, contextlib.closing(run.results()) as results:
            for result in results:
                bad = self._with_twins(records, [
                    *accused_entries(flight, plan.ordinals(result.batch_idx), records),
                    *not_finite_entries(result, records, run.too_large),
                ])  # fmt: skip
                quarantined.update(entry.ordinal for entry in bad)
                writer.put(as_block(result), bad)
                sequences, tokens = plan.num_completed(result.batch_idx), plan.tokens_of(result.batch_idx)
                self.pace.add(sequences, tokens, runner.timings.wait)
        log.info("inference %s %s", self.label, runner.timings)
        log.info("checkpoints %s %s", self.label, writer.times)
        flight.rest()

    def _wide_runner(self) -> AsyncInferenceRunner:
        return AsyncInferenceRunner(self.load_exact() if self.load_exact else self.model)

    def _exact_runner(self) -> AsyncInferenceRunner:
        assert self.load_exact is not None
        return AsyncInferenceRunner(self.load_exact(), store_dtype=self.job.options.store_dtype)

    def _writer(self, store: CheckpointStore, on_commit: Callable[[Sequence[int]], None]) -> CheckpointWriter:
        run, config = self.job.run, self.config
        trigger = CheckpointTrigger(
            sequences=config.commit_sequences or run.commit_sequences,
            seconds=config.commit_seconds or run.commit_seconds,
            size_bytes=RAGGED_COMMIT_BYTES if self.model.readout.is_ragged else PENDING_BYTES,
        )
        return CheckpointWriter(
            store,
            token=self.lease.token,
            trigger=trigger,
            max_pending_bytes=config.pending_bytes,
            on_commit=on_commit,
        )

    # ---- setting aside

    def _rejected(self, plan: BatchPlan, records: ShardRecords) -> list[QuarantineEntry]:
        return self._with_twins(records, rejected_entries(records, plan, self.job.options.max_length))

    def _with_twins(self, records: ShardRecords, entries: Sequence[QuarantineEntry]) -> list[QuarantineEntry]:
        """An entry for every record of the same sequence: what befalls one befalls all."""
        of_first = {e.ordinal: e for e in entries if records.copies[records.row(e.ordinal)] > 1}
        twins = duplicates_of(self.job, self.job_dir, of_first) if of_first else []
        return [*entries, *(replace(of_first[t.first], ordinal=t.ordinal, id=t.id) for t in twins)]

    # ---- publishing

    def _drop_damaged(self, store: CheckpointStore) -> bool:
        """Look at every block before it is published; those that are damaged are computed again."""
        damaged = [batch_idx for batch_idx, block in store.scan() if block is None]
        if damaged:
            log.warning("damaged batches dropped %s batches=%s", self.label, damaged)
            store.drop(damaged, token=self.lease.token)
        return bool(damaged)

    def _published(self, store: CheckpointStore) -> DoneRecord | None:
        """An earlier attempt's result, when its done record and its file agree."""
        record = store.done_record() or read_done(self.job_dir, self.lease.shard.index)
        if record is None:
            return None
        if published_result(self.job_dir, record) is not None:
            return record
        log.warning("published result damaged or missing %s file=%s", self.label, record.file)
        store.drop((), token=self.lease.token)
        return None

    def _publish(self, plan: BatchPlan, records: ShardRecords, store: CheckpointStore) -> DoneRecord:
        shard = self.lease.shard
        entries = sorted(
            [*self._rejected(plan, records), *store.quarantine()], key=lambda entry: entry.ordinal
        )
        left_out = {entry.ordinal for entry in entries}
        embedded = sorted(set(records.ordinals.tolist()) - left_out)
        path = self.job_dir.result(shard.index, self.lease.token)
        with store.snapshot() as snapshot:
            rows = by_record(
                row for block in snapshot.blocks() for row in block.matrices() if row[0] not in left_out
            )
            if {ordinal for ordinal, _ in rows} != set(embedded):
                raise Damage(f"{self.label}: the committed rows are not the shard's records; verify the job")
            if not self._allows_same_vectors:
                self._refuse_same_vectors(plan, records, rows, embedded)
            schema = self._result_rows(plan, records, []).schema
            portions = cut_portions(rows, PORTION_BYTES)
            digest = write_result(
                path, schema, (self._result_rows(plan, records, portion) for portion in portions)
            )
        num_embedded = records.num_records(np.array(embedded, np.uint64))
        record = DoneRecord(path.name, digest, shard.num_records, num_embedded, tuple(entries))
        store.set_done(record, token=self.lease.token)
        return record

    @property
    def _allows_same_vectors(self) -> bool:
        allow = self.config.allow_same_vectors
        return self.job.run.allow_same_vectors if allow is None else allow

    def _refuse_same_vectors(
        self, plan: BatchPlan, records: ShardRecords, rows: Sequence[Row], embedded: Sequence[int]
    ) -> None:
        """Raises JobHopeless where most of the shard's different sequences have one and the same vector."""
        tokens: dict[int, bytes] = dict.fromkeys(spread(embedded), b"")
        for ordinal, ids in plan.ids():
            if ordinal in tokens:
                tokens[ordinal] += ids.tobytes()
        different = {*{content: ordinal for ordinal, content in tokens.items()}.values()}
        portions = cut_portions([row for row in rows if row[0] in different], PORTION_BYTES)
        for portion in itertools.islice(portions, 1):
            ordinals, embeddings, offsets = self._combined(plan, portion)
            if shared := sharing_one_vector(embeddings, offsets):
                one, other, *_ = (records.ids[records.row(ordinals[row])] for row in shared)
                raise JobHopeless(
                    f"{len(shared):,} of {len(ordinals):,} different sequences have one and the same vector, "
                    f"{one} and {other} among them: the model, or the layer or pooling that was asked for, "
                    "does not tell them apart; --allow-same-vectors stores it all the same"
                )

    def _result_rows(self, plan: BatchPlan, records: ShardRecords, portion: Sequence[Row]) -> pa.RecordBatch:
        ordinals, embeddings, offsets = self._combined(plan, portion)
        ids = [records.ids[records.row(ordinal)] for ordinal in ordinals.tolist()]
        return result_rows(
            ids, ordinals, embedding_columns(embeddings, offsets, column_names(self.job.options))
        )

    def _combined(self, plan: BatchPlan, portion: Sequence[Row]) -> tuple[Ordinals, Vectors, Offsets | None]:
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
            lambda ordinal: self.model.left.pooled(*plan.owned(ordinal)),
            self.model.finish,
            nothing=nothing,
        )
        return *combined, None


def as_block(result: InferenceResult) -> Block:
    """What is stored of a batch: its rows, without those that are not finite."""
    embeddings, offsets = select_rows(result.embeddings, result.offsets, result.finite)
    ordinals = result.ordinals[result.finite]
    return Block(result.batch_idx, ordinals, embeddings, split=result.split, offsets=offsets)


def committed_progress(plan: BatchPlan, committed: set[int], quarantined: int, rejected: int) -> Progress:
    """What the manifest is told: records whose last segment is committed, and records set aside."""
    completed = sum(plan.num_completed(index) for index in committed)
    share = len(committed) / max(1, plan.num_batches)
    return Progress(len(committed), completed - quarantined, quarantined + rejected, share)
