"""One leased shard, from its Arrow file to its published result. Where inference meets the store.

The order of the last steps is what makes a crash harmless: result file, done record in the store (fenced
by the token), done file (created once: the first of all holders decides), manifest. Whoever comes later finds
the farthest step that was reached and goes on from there.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from checkpoint import Block, CheckpointStore, CheckpointTrigger, CheckpointWriter, DoneRecord
from checkpoint.crash_log import CrashLimits, CrashLog
from checkpoint.records import QuarantineEntry
from gpu_tasks.inference.batch_plan import BatchPlan
from gpu_tasks.inference.model import EmbeddingModel
from gpu_tasks.inference.rows import select_rows
from gpu_tasks.inference.runner import AsyncInferenceRunner, InferenceResult
from gpu_tasks.shard.guarded_run import GuardedRun, float32_runner, wide_runner
from gpu_tasks.shard.kind import kind_here
from gpu_tasks.shard.observers import ShardObserver
from gpu_tasks.shard.publish import Publisher, find_published, settle
from gpu_tasks.shard.quarantined_records import (
    accused_entries,
    not_finite_entries,
    rejected_entries,
    with_duplicates,
)
from gpu_tasks.shard.reading import ReadShard, is_noted, read_and_plan
from queue_app.coordination.states import Lease
from queue_app.host.memory import give_memory_back
from queue_app.job.directory import JobDir, make_place_of_store
from queue_app.job.spec import Job, Progress
from queue_app.settings import RuntimeConfig

log = logging.getLogger(__name__)

RAGGED_COMMIT_BYTES = 8 << 20
"""An fsync costs little beside writing so much."""


@dataclass(frozen=True, slots=True)
class ShardRun:
    """Everything that one attempt at a shard needs.

    `should_stop` is asked before each batch; `load_float32` loads the same model in float32 on a
    device that it is told, for what is not finite otherwise.
    """

    job: Job
    job_dir: JobDir
    lease: Lease
    model: EmbeddingModel
    config: RuntimeConfig
    should_stop: Callable[[], bool]
    load_float32: Callable[[str], EmbeddingModel] | None = None
    observer: ShardObserver = field(default_factory=ShardObserver)

    @property
    def allow_same(self) -> bool:
        """Different sequences may have one and the same vector."""
        return _first_set(self.config.allow_same_vectors, self.job.run.allow_same_vectors)

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
        with self.opened() as shard:
            while shard.compute():
                if (done := shard.publish()) is not None:
                    return done
            shard.commit_rest()
            return None

    @contextlib.contextmanager
    def opened(self, read: ReadShard | None = None) -> Iterator["OpenShard"]:
        """The shard with its batches planned and its store open for writing; `read`, where it was read ahead.

        What was computed is committed when it is closed. Raises as `run` does.
        """
        make_place_of_store(self.store_path)
        if read is None or is_noted(self.store_path):
            accuse_after = self.config.quarantine_after_deaths
            read = read_and_plan(
                self.job, self.job_dir, self.lease.shard, self.model, self.store_path, accuse_after
            )
        with (
            CheckpointStore.open(
                self.store_path,
                job_digest=bytes.fromhex(self.job.digest),
                plan=read.plan.fingerprint,
                token=self.lease.token,
                kind=kind_here(self.job),
            ) as store,
            contextlib.ExitStack() as writing,
        ):
            generation, done = find_published(store, self.job_dir, self.lease)
            yield OpenShard(self, read, store, writing, generation, done)

    def discard_store(self) -> None:
        """The published result takes the place of the checkpoints, unless they are to be kept."""
        if not _first_set(self.config.keep_checkpoints, self.job.run.keep_checkpoints):
            CheckpointStore.discard(self.store_path)

    def writer(self, store: CheckpointStore, on_commit: Callable[[Sequence[int]], None]) -> CheckpointWriter:
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


@dataclass(slots=True)
class OpenShard:
    """A shard whose store is open. One thread at a time has it: to compute, and then to publish."""

    run: ShardRun
    read: ReadShard
    store: CheckpointStore
    writing: contextlib.ExitStack
    generation: int
    published: DoneRecord | None
    """What an earlier attempt has published."""
    rejected: Sequence[QuarantineEntry] = field(init=False)
    """The records without a batch."""

    def __post_init__(self) -> None:
        entries = rejected_entries(self.read.records, self.read.plan, self.run.job.options)
        self.rejected = with_duplicates(self.run.job, self.run.job_dir, self.read.records, entries)

    def compute(self) -> bool:
        """Compute what is not committed; the last commit may be to come. False: it was stopped early."""
        run, plan = self.run, self.read.plan
        run.observer.planned(plan)
        if self.published is not None:
            return True
        committed = set(self.store.committed())
        quarantined = {entry.ordinal for entry in self.store.quarantine()}
        log.info(
            "computing %s batches=%d tokens=%d packed=%.3f resumed=%d",
            run.lease.label, plan.num_batches, plan.num_tokens, plan.fill, len(committed),
        )  # fmt: skip
        runner = AsyncInferenceRunner(run.model, store_dtype=run.job.options.store_dtype)
        run.observer.computing(self._progress(committed, quarantined), runner.timings)
        guarded, num_left = self._guarded(runner, committed, quarantined), plan.num_batches - len(committed)
        writer = self._begin_writing(committed, quarantined)
        with contextlib.closing(guarded.results()) as results:
            for result in results:
                bad = with_duplicates(run.job, run.job_dir, self.read.records, [
                    *accused_entries(guarded.crash_log, plan.ordinals(result.batch_idx), self.read.records),
                    *not_finite_entries(result, self.read.records, guarded.too_large),
                ])  # fmt: skip
                quarantined.update(entry.ordinal for entry in bad)
                writer.put(as_block(result), bad)
                run.observer.computed(result.batch_idx)
                num_left -= 1
        log.info("inference %s %s", run.lease.label, runner.timings)
        guarded.crash_log.rest()
        return num_left == 0

    def commit_rest(self) -> None:
        """Commit what was computed and is not committed yet. Raises as `CheckpointStore.commit` does."""
        self.writing.close()

    def publish(self) -> DoneRecord | None:
        """Commit the rest, and publish a shard all of which was computed; answers the record that counts.

        None: damaged batches were dropped instead, and are to be computed again. Raises as `Publisher` does.
        """
        self.commit_rest()
        if self.published is None:
            give_memory_back()  # before publishing wants some
            self.published = self._publisher().publish(self.store)
        if self.published is None:
            return None
        return settle(self.store, self.run.job_dir, self.run.lease, self.published)

    def _publisher(self) -> Publisher:
        run, (records, plan) = self.run, (self.read.records, self.read.plan)
        return Publisher(
            run.job, run.job_dir, run.lease, run.model, plan, records, self.rejected, run.allow_same,
            self.generation,
        )  # fmt: skip

    def _progress(self, committed: set[int], quarantined: set[int]) -> Progress:
        return committed_progress(self.read.plan, committed, len(quarantined), len(self.rejected))

    def _guarded(
        self, runner: AsyncInferenceRunner, committed: set[int], quarantined: set[int]
    ) -> GuardedRun:
        run, config = self.run, self.run.config
        limits = CrashLimits(config.probe_after_deaths, config.quarantine_after_deaths)
        return GuardedRun(
            runner=runner,
            plan=self.read.plan,
            crash_log=CrashLog.open(run.store_path / "flight.json", limits),
            committed=frozenset(committed),
            excluded=frozenset(quarantined),
            should_stop=run.should_stop,
            float32=float32_runner(run.job, run.load_float32),
            wide=wide_runner(run.job, run.model, run.load_float32),
        )

    def _begin_writing(self, committed: set[int], quarantined: set[int]) -> CheckpointWriter:
        """What it commits is added to `committed`, and told."""
        run = self.run

        def note_commit(batches: Sequence[int]) -> None:
            committed.update(batches)
            progress = self._progress(committed, quarantined)
            run.observer.committed(batches, progress, writer.times.latest)
            log.info("committed %s batches=%s", run.lease.label, ",".join(map(str, sorted(batches))))

        self.writing.callback(lambda: log.info("checkpoints %s %s", run.lease.label, writer.times))
        writer = self.writing.enter_context(run.writer(self.store, note_commit))
        return writer


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
