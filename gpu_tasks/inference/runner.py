"""The inference loop: load, copy in, compute, copy out, hand over; all at once, one batch apart.

A loader thread prepares the batches that come next; the caller's thread starts each computation and,
on CUDA, hands over batch i while batch i + 1 computes. The loop waits only for the copy of the batch
that it hands over, never for the device.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, fields
from time import perf_counter

import numpy as np
import numpy.typing as npt

from gpu_tasks.errors import OutOfMemory
from gpu_tasks.inference.batch_plan import BatchPlan, Ordinals, TokenBatch
from gpu_tasks.inference.device import DeviceSeconds, Fetched, Pending, Staged, StoreDtype
from gpu_tasks.inference.model import EmbeddingModel
from gpu_tasks.inference.out_of_memory import compute_again
from gpu_tasks.inference.prefetch import Loaded, Loader
from gpu_tasks.inference.rows import Offsets, Vectors

RESUMED = -1


@dataclass(frozen=True, slots=True, eq=False)
class InferenceResult:
    """The vectors of one batch, [n, dim], row i for the segment of record `ordinals[i]`.

    With `offsets` uint64[n + 1] the rows are ragged, a vector for each token: see gpu_tasks.inference.rows.
    `finite` (bool[n]) is false where a vector holds a NaN or infinity in the store's dtype. `split` says
    that the batch did not fit in memory and was computed in parts. A result whose `batch_idx` is RESUMED
    names the records that were committed before, and has no vectors.
    """

    batch_idx: int
    ordinals: Ordinals
    embeddings: Vectors
    finite: npt.NDArray[np.bool_]
    split: bool = False
    offsets: Offsets | None = None


@dataclass(slots=True)
class Timings:
    """Where the time went, in seconds.

    The caller's thread: `wait` for a loaded batch, `launch` of its computation (on the host that is the
    computation itself), `fetch` of its vectors. The device: `copy_in`, `compute`, `copy_out`, which on
    CUDA run beside all of that and beside each other.
    """

    wait: float = 0.0
    launch: float = 0.0
    fetch: float = 0.0
    copy_in: float = 0.0
    compute: float = 0.0
    copy_out: float = 0.0

    def add(self, device: DeviceSeconds) -> None:
        self.copy_in += device.copy_in
        self.compute += device.compute
        self.copy_out += device.copy_out

    def __str__(self) -> str:
        return " ".join(f"{field.name}={getattr(self, field.name):.3f}s" for field in fields(self))


@dataclass(frozen=True, slots=True, eq=False)
class _Flight:
    batch: TokenBatch
    pending: Pending


@dataclass(frozen=True, slots=True, eq=False)
class _NoRoom:
    """A batch whose tokens did not fit beside what is under way: it fails when its turn has come."""

    message: str

    def launch(self, store_dtype: StoreDtype) -> Pending:
        raise OutOfMemory(self.message)


@dataclass(slots=True, eq=False)
class AsyncInferenceRunner:
    """Runs planned batches through a model.

    `depth` is how many batches the loader keeps ready, at least one. `timings` adds up over all runs.
    """

    model: EmbeddingModel
    store_dtype: StoreDtype = field(default="float32", kw_only=True)
    depth: int = field(default=3, kw_only=True)
    timings: Timings = field(default_factory=Timings, init=False)

    def __post_init__(self) -> None:
        if self.depth < 1:
            raise ValueError(f"depth={self.depth}: the loader keeps at least 1 batch ready")

    def run(
        self,
        plan: BatchPlan,
        *,
        skip: Collection[int] = (),
        exclude: Collection[int] = (),
        should_stop: Callable[[], bool] | None = None,
        on_start: Callable[[int], None] | None = None,
    ) -> Iterator[InferenceResult]:
        """Yield one result per batch, in the plan's order.

        Args:
            plan: the shard's batches.
            skip: batches that are committed already. If there are any, the first result is RESUMED and
                names their records.
            exclude: ordinals of records that were set aside; their rows are left out, and a batch of
                which nothing is left yields a result without rows.
            should_stop: asked before each batch; once it says yes, what is under way is still yielded.
            on_start: called with the batch's index right before it is computed. On CUDA up to
                `model.lookahead` earlier batches may still be under way.

        Raises:
            RecordTooLarge: a single segment does not fit in the device's memory.
            Exception: whatever assembling, staging or computing a batch raised.
        """
        committed = frozenset(skip)
        if committed:
            yield self._resumed(plan, committed, exclude)
        todo = [index for index in range(plan.num_batches) if index not in committed]
        with Loader(todo, lambda i: plan.batch(i).without(exclude), self._stage, self.depth) as loader:
            yield from self._pipeline(loader, should_stop or _never, on_start or _ignore)

    def compute(self, batch: TokenBatch) -> InferenceResult:
        """Compute one batch by itself, such as a single record that is under suspicion."""
        fetched, split = compute_again(self.model, batch, self.store_dtype)
        return _result(batch, fetched, split)

    def _pipeline(
        self, loader: Loader, should_stop: Callable[[], bool], on_start: Callable[[int], None]
    ) -> Iterator[InferenceResult]:
        flights: deque[_Flight] = deque()
        while not should_stop() and (loaded := self._next(loader)) is not None:
            on_start(loaded.batch.batch_idx)
            try:
                flights.append(self._launch(loaded))
            except OutOfMemory:
                yield from self._land(flights, keep=0)
                yield self.compute(loaded.batch)
            yield from self._land(flights, keep=self.model.lookahead)
        yield from self._land(flights, keep=0)

    def _stage(self, batch: TokenBatch) -> Staged:
        try:
            return self.model.stage(batch)
        except OutOfMemory as error:
            return _NoRoom(str(error))

    def _next(self, loader: Loader) -> Loaded | None:
        started = perf_counter()
        loaded = next(loader, None)
        self.timings.wait += perf_counter() - started
        return loaded

    def _launch(self, loaded: Loaded) -> _Flight:
        started = perf_counter()
        try:
            return _Flight(loaded.batch, loaded.staged.launch(self.store_dtype))
        finally:
            self.timings.launch += perf_counter() - started

    def _land(self, flights: deque[_Flight], *, keep: int) -> Iterator[InferenceResult]:
        while len(flights) > keep:
            flight = flights.popleft()
            started = perf_counter()
            fetched = flight.pending.wait()
            self.timings.fetch += perf_counter() - started
            self.timings.add(fetched.seconds)
            yield _result(flight.batch, fetched, split=False)

    def _resumed(
        self, plan: BatchPlan, committed: Collection[int], exclude: Collection[int]
    ) -> InferenceResult:
        named = np.unique(np.concatenate([plan.ordinals(index) for index in committed]))
        ordinals = np.setdiff1d(named, np.array(sorted(exclude), dtype=np.uint64))
        vectors = np.empty((0, self.model.dim), dtype=self.store_dtype)
        return InferenceResult(RESUMED, ordinals, vectors, np.empty(0, dtype=np.bool_))


def _result(batch: TokenBatch, fetched: Fetched, split: bool) -> InferenceResult:
    return InferenceResult(
        batch.batch_idx, batch.ordinals, fetched.embeddings, fetched.finite, split, fetched.offsets
    )


def _never() -> bool:
    return False


def _ignore(batch_idx: int) -> None:
    """Nobody wants to know."""
