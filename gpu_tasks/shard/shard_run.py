"""One leased shard, from its Arrow file to its published result. Where inference meets the store.

The order of the last steps is what makes a crash harmless: result file, done record in the store (fenced
by the token), done file (created once: the first of all holders decides), manifest. Whoever comes later finds
the farthest step that was reached and goes on from there.
"""

import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from checkpoint import Block, CheckpointStore, CheckpointTrigger, CheckpointWriter, DoneRecord
from checkpoint.crash_log import CrashLimits, CrashLog
from gpu_tasks.inference.batch_plan import BatchPlan
from gpu_tasks.inference.model import EmbeddingModel
from gpu_tasks.inference.rows import select_rows
from gpu_tasks.inference.runner import AsyncInferenceRunner, InferenceResult
from gpu_tasks.shard.guarded_run import GuardedRun, exact_runner, wide_runner
from gpu_tasks.shard.kind import kind_here
from gpu_tasks.shard.observers import ShardObserver
from gpu_tasks.shard.plan_shard import plan_shard
from gpu_tasks.shard.publish import Publisher, find_published, settle
from gpu_tasks.shard.quarantined_records import (
    accused_entries,
    not_finite_entries,
    rejected_entries,
    with_duplicates,
)
from gpu_tasks.shard.tokenizing import TokenizingLog
from queue_app.coordination.states import Lease
from queue_app.host.memory import give_memory_back
from queue_app.job.directory import JobDir, make_place_of_store
from queue_app.job.shard_files import ShardRecords, read_shard
from queue_app.job.spec import Job, Progress
from queue_app.settings import RuntimeConfig

log = logging.getLogger(__name__)

RAGGED_COMMIT_BYTES = 8 << 20
"""An fsync costs little beside writing so much."""


@dataclass(frozen=True, slots=True)
class ShardRun:
    """Everything that one attempt at a shard needs.

    `should_stop` is asked before each batch; `load_exact` loads the same model in float32 on a
    device that it is told, for what is not finite otherwise.
    """

    job: Job
    job_dir: JobDir
    lease: Lease
    model: EmbeddingModel
    config: RuntimeConfig
    should_stop: Callable[[], bool]
    load_exact: Callable[[str], EmbeddingModel] | None = None
    observer: ShardObserver = field(default_factory=ShardObserver)

    @property
    def store_path(self) -> Path:
        return self.job_dir.checkpoint(self.lease.shard.index, self.job.job_id, self.config.scratch)

    def run(self) -> DoneRecord | None:
        """Compute what is not committed yet, and publish. None: stopped early, all of it committed.

        Raises:
            StaleToken: the lease went to somebody else, or the shard was reopened; what was written after
                that counts for nothing.
            Damage: the shard's file is not the one that was submitted.
            NotOurs: another user has, or could have, made the directory for the checkpoints.
            DiskFull: no room for the next commit; what is committed stays.
            JobHopeless: most records are unknown to the model, or different ones have the same vector.
        """
        records = read_shard(self.job_dir.shard(self.lease.shard.index), self.lease.shard)
        make_place_of_store(self.store_path)
        noted = TokenizingLog.open(
            self.store_path / "tokenizing.json", accuse_after=self.config.quarantine_after_deaths
        )
        if noted.has_accused:
            CheckpointStore.discard(self.store_path)  # of a host that could tokenise it: with another plan
        plan = plan_shard(self.job, self.model, records, noted)
        self.observer.planned(plan)
        with CheckpointStore.open(
            self.store_path,
            job_digest=bytes.fromhex(self.job.digest),
            plan=plan.fingerprint,
            token=self.lease.token,
            kind=kind_here(self.job),
        ) as store:
            generation, done = find_published(store, self.job_dir, self.lease)
            if done is None:
                done = self._compute_and_publish(plan, records, store, generation)
            return None if done is None else settle(store, self.job_dir, self.lease, done)

    def discard_store(self) -> None:
        """The published result takes the place of the checkpoints, unless they are to be kept."""
        if not _first_set(self.config.keep_checkpoints, self.job.run.keep_checkpoints):
            CheckpointStore.discard(self.store_path)

    # ---- computing

    def _compute_and_publish(
        self, plan: BatchPlan, records: ShardRecords, store: CheckpointStore, generation: int
    ) -> DoneRecord | None:
        entries = rejected_entries(records, plan, self.job.options)
        rejected = with_duplicates(self.job, self.job_dir, records, entries)
        allow_same = _first_set(self.config.allow_same_vectors, self.job.run.allow_same_vectors)
        publisher = Publisher(
            self.job, self.job_dir, self.lease, self.model, plan, records, rejected, allow_same, generation
        )
        done = None
        while done is None:
            self._compute(plan, records, store, len(rejected))
            if len(store.committed()) < plan.num_batches:
                return None
            give_memory_back()  # before publishing wants some
            done = publisher.publish(store)
        return done

    def _compute(
        self, plan: BatchPlan, records: ShardRecords, store: CheckpointStore, num_rejected: int
    ) -> None:
        committed = set(store.committed())
        quarantined = {entry.ordinal for entry in store.quarantine()}

        def note_commit(batches: Sequence[int]) -> None:
            committed.update(batches)
            progress = committed_progress(plan, committed, len(quarantined), num_rejected)
            self.observer.committed(batches, progress, writer.times.latest)
            log.info("committed %s batches=%s", self.lease.label, ",".join(map(str, sorted(batches))))

        log.info(
            "computing %s batches=%d tokens=%d packed=%.3f resumed=%d",
            self.lease.label, plan.num_batches, plan.num_tokens, plan.fill, len(committed),
        )  # fmt: skip
        runner = AsyncInferenceRunner(self.model, store_dtype=self.job.options.store_dtype)
        resumed = committed_progress(plan, committed, len(quarantined), num_rejected)
        self.observer.computing(resumed, runner.timings)
        limits = CrashLimits(self.config.probe_after_deaths, self.config.quarantine_after_deaths)
        run = GuardedRun(
            runner=runner,
            plan=plan,
            crash_log=CrashLog.open(self.store_path / "flight.json", limits),
            committed=frozenset(committed),
            excluded=frozenset(quarantined),
            should_stop=self.should_stop,
            exact=exact_runner(self.job, self.load_exact),
            wide=wide_runner(self.job, self.model, self.load_exact),
        )
        with self._writer(store, note_commit) as writer, contextlib.closing(run.results()) as results:
            for result in results:
                bad = with_duplicates(self.job, self.job_dir, records, [
                    *accused_entries(run.crash_log, plan.ordinals(result.batch_idx), records),
                    *not_finite_entries(result, records, run.too_large),
                ])  # fmt: skip
                quarantined.update(entry.ordinal for entry in bad)
                writer.put(as_block(result), bad)
                self.observer.computed(result.batch_idx)
        log.info("inference %s %s", self.lease.label, runner.timings)
        log.info("checkpoints %s %s", self.lease.label, writer.times)
        run.crash_log.rest()

    def _writer(self, store: CheckpointStore, on_commit: Callable[[Sequence[int]], None]) -> CheckpointWriter:
        run, config = self.job.run, self.config
        trigger = CheckpointTrigger(
            sequences=config.commit_sequences or run.commit_sequences,
            seconds=config.commit_seconds or run.commit_seconds,
        )
        if self.model.readout.is_ragged:
            trigger = replace(trigger, size_bytes=RAGGED_COMMIT_BYTES)
        return CheckpointWriter(
            store,
            token=self.lease.token,
            trigger=trigger,
            max_pending_bytes=config.pending_bytes,
            on_commit=on_commit,
        )


def as_block(result: InferenceResult) -> Block:
    """What is stored of a batch: its rows, without those that are not finite."""
    embeddings, offsets = select_rows(result.embeddings, result.offsets, result.finite)
    ordinals = result.ordinals[result.finite]
    return Block(result.batch_idx, ordinals, embeddings, split=result.split, offsets=offsets)


def committed_progress(plan: BatchPlan, committed: set[int], quarantined: int, rejected: int) -> Progress:
    """What the manifest is told: records whose last segment is committed, and records quarantined."""
    completed = sum(plan.num_completed(index) for index in committed)
    share = len(committed) / max(1, plan.num_batches)
    return Progress(len(committed), completed - quarantined, quarantined + rejected, share)


def _first_set(of_worker: bool | None, of_job: bool) -> bool:
    return of_job if of_worker is None else of_worker
