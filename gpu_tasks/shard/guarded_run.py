"""Runs a shard's batches so that a record which kills, fails or does not fit costs itself alone."""

from collections.abc import Callable, Collection, Generator, Iterator
from dataclasses import dataclass, field, replace
from functools import cache, partial

import numpy as np

from checkpoint.crash_log import CrashLog
from gpu_tasks.errors import RecordTooLarge
from gpu_tasks.inference.batch_plan import BatchPlan, TokenBatch
from gpu_tasks.inference.device_errors import Fault, fault_of
from gpu_tasks.inference.model import EmbeddingModel
from gpu_tasks.inference.rows import join_vectors, split_rows
from gpu_tasks.inference.runner import RESUMED, AsyncInferenceRunner, InferenceResult
from gpu_tasks.shard.numerics.canary_check import device_name
from gpu_tasks.shard.numerics.float32_runner import Float32Runner
from gpu_tasks.shard.trouble.whose_failure import Whose, whose
from queue_app.job.spec import Job

LoadFloat32 = Callable[[str], EmbeddingModel]
"""The model in float32 on a device."""
Recompute = Float32Runner | AsyncInferenceRunner


@dataclass(slots=True)
class GuardedRun:
    """One attempt at a shard. `crash_log.accused` grows while it runs.

    `float32` gives a runner in float32, for records whose vectors came out as NaN or infinite. `wide` gives
    one that stores float32, too, where the job stores float16: what is finite there was only too large.
    """

    runner: AsyncInferenceRunner
    plan: BatchPlan
    crash_log: CrashLog
    committed: Collection[int]
    excluded: Collection[int]
    should_stop: Callable[[], bool]
    float32: Callable[[], Float32Runner] | None = None
    wide: Callable[[], Recompute] | None = None
    too_large: set[int] = field(default_factory=set, init=False)
    """Records whose vectors are finite, but hold a number that float16 does not reach."""
    _done: set[int] = field(default_factory=set, init=False)

    def results(self) -> Generator[InferenceResult]:
        """Suspected batches first, each by itself; then the others, overlapped.

        Raises:
            Exception: whatever computing raised; the crash log keeps what was in flight.
        """
        self._done = set(self.committed)
        while True:
            try:
                yield from self._suspects()
                yield from self._others()
                return
            except RecordTooLarge as error:
                self.crash_log.rest()
                self.crash_log.accuse(error.ordinal, f"{error.num_tokens} tokens do not fit in the memory")
            except GeneratorExit:
                self.crash_log.rest()
                raise
            except Exception as error:
                if whose(error) is Whose.HOST and fault_of(error) is not Fault.LOST:
                    self.crash_log.rest()  # a host that fails all alike accuses no record
                else:
                    self.crash_log.failed(error)
                raise

    def _suspects(self) -> Iterator[InferenceResult]:
        for batch_idx in self.crash_log.suspects:
            if batch_idx in self._done or self.should_stop():
                continue
            if self.crash_log.must_probe(batch_idx):
                self._probe(self._batch(batch_idx))
            self.crash_log.begin(batch_idx)
            yield self._landed(self.runner.compute(self._batch(batch_idx)))

    def _probe(self, batch: TokenBatch) -> None:
        """Try each record alone. The vectors are thrown away: their last bits could differ."""
        for ordinal in np.unique(batch.ordinals).tolist():
            if not self.crash_log.is_settled(ordinal):
                self.crash_log.begin_probe(ordinal)
                self.runner.compute(batch.select(batch.ordinals == ordinal))
                self.crash_log.passed(ordinal)

    def _others(self) -> Iterator[InferenceResult]:
        results = self.runner.run(
            self.plan,
            skip=frozenset(self._done),
            exclude=self._excluded(),
            should_stop=self.should_stop,
            on_start=self.crash_log.begin,
        )
        for result in results:
            if result.batch_idx != RESUMED:
                yield self._landed(result)

    def _landed(self, result: InferenceResult) -> InferenceResult:
        self.crash_log.landed(result.batch_idx)
        self._done.add(result.batch_idx)
        if self.float32 is not None and not result.finite.all():
            result = self._again(result, self.float32())
        if self.wide is not None and not result.finite.all():
            self._tell_too_large(result, self.wide())
        return result

    def _again(self, result: InferenceResult, float32: Float32Runner) -> InferenceResult:
        """The rows that are not finite, each alone and in float32."""
        batch, rows = self._batch(result.batch_idx), np.arange(len(result.ordinals))
        parts, finite = split_rows(result.embeddings, result.offsets), result.finite.copy()
        for row in rows[~finite].tolist():
            alone = float32.compute(batch.select(rows == row))
            parts[row], finite[row] = alone.embeddings, alone.finite[0]
        return replace(result, embeddings=join_vectors(parts), finite=finite)

    def _tell_too_large(self, result: InferenceResult, wide: Recompute) -> None:
        batch = self._batch(result.batch_idx)
        for ordinal in np.unique(result.ordinals[~result.finite]).tolist():
            if wide.compute(batch.select(batch.ordinals == ordinal)).finite.all():
                self.too_large.add(ordinal)

    def _batch(self, batch_idx: int) -> TokenBatch:
        return self.plan.batch(batch_idx).without(self._excluded())

    def _excluded(self) -> set[int]:
        return {*self.excluded, *self.crash_log.accused}


def float32_runner(job: Job, load_float32: LoadFloat32 | None) -> Callable[[], Float32Runner] | None:
    """As `GuardedRun.float32`, made when it is first asked for; None where the job is in float32 already."""
    if load_float32 is None:
        return None
    return cache(partial(Float32Runner, load_float32, device_name(job), job.options.store_dtype))


def wide_runner(
    job: Job, model: EmbeddingModel, load_float32: LoadFloat32 | None
) -> Callable[[], Recompute] | None:
    """As `GuardedRun.wide`; None where the job stores float32."""
    if job.options.store_dtype != "float16":
        return None
    if load_float32 is None:
        return cache(partial(AsyncInferenceRunner, model))
    return cache(partial(Float32Runner, load_float32, device_name(job)))
