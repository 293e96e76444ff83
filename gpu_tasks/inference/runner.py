"""The inference loop: load, copy in, compute, copy out, hand over; all at once, one batch apart.

A loader thread assembles and stages the batches that come next; the caller's thread starts each computation
and, on CUDA, hands over batch i while batch i + 1 computes. The loop waits only for the copy of the batch
that it hands over, never for the device.
"""

from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, fields
from functools import partial
from itertools import islice
from time import perf_counter

import numpy as np
import numpy.typing as npt

from gpu_tasks.errors import OutOfMemory
from gpu_tasks.inference.batch_plan import BatchPlan, TokenBatch
from gpu_tasks.inference.model import DeviceSeconds, EmbeddingModel, Fetched, Pending, Staged, StoreDtype
from gpu_tasks.inference.out_of_memory import NoRoom, compute_alone
from gpu_tasks.inference.rows import Offsets, Ordinals, Vectors

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


Loaded = tuple[TokenBatch, Staged]
UnderWay = deque[tuple[TokenBatch, Pending]]


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
        order: Sequence[int] | None = None,
        skip: Collection[int] = (),
        exclude: Collection[int] = (),
        should_stop: Callable[[], bool] | None = None,
        on_start: Callable[[int], None] | None = None,
    ) -> Iterator[InferenceResult]:
        """Yield one result per batch, in the plan's order.

        Args:
            plan: the shard's batches.
            order: the batches to compute, in this order instead.
            skip: batches that are committed already. If there are any, the first result is RESUMED and
                names their records.
            exclude: ordinals of records that were quarantined; their rows are left out, and a batch of
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
        batches = range(plan.num_batches) if order is None else order
        todo = (index for index in batches if index not in committed)
        with closing(self._loaded(todo, partial(self._load, plan, exclude))) as loaded:
            yield from self._pipeline(
                loaded, should_stop or (lambda: False), on_start or (lambda batch_idx: None)
            )

    def compute(self, batch: TokenBatch) -> InferenceResult:
        """Compute one batch with nothing else under way, so that it has the device for itself.

        Raises RecordTooLarge when one segment alone does not fit.
        """
        return _result(batch, *compute_alone(self.model, batch, self.store_dtype))

    def _loaded(self, todo: Iterator[int], load: Callable[[int], Loaded]) -> Generator[Loaded]:
        """What a thread loads, in order, its errors at their batch's turn. Closing this ends the thread."""
        loader = ThreadPoolExecutor(1, "holdfast-loader")
        try:
            ahead = deque(loader.submit(load, index) for index in islice(todo, self.depth))
            while ahead:
                loaded = ahead.popleft().result()
                ahead.extend(loader.submit(load, index) for index in islice(todo, 1))
                yield loaded
        finally:
            loader.shutdown(cancel_futures=True)

    def _load(self, plan: BatchPlan, exclude: Collection[int], batch_idx: int) -> Loaded:
        batch = plan.batch(batch_idx).without(exclude)
        try:
            return batch, self.model.stage(batch)
        except OutOfMemory as error:
            return batch, NoRoom(str(error))

    def _pipeline(
        self, loaded: Iterator[Loaded], should_stop: Callable[[], bool], on_start: Callable[[int], None]
    ) -> Iterator[InferenceResult]:
        under_way: UnderWay = deque()
        while not should_stop() and (ready := self._next(loaded)) is not None:
            batch, staged = ready
            on_start(batch.batch_idx)
            try:
                under_way.append((batch, self._launch(staged)))
            except OutOfMemory:
                yield from self._fetch(under_way, keep=0)
                yield self.compute(batch)
            yield from self._fetch(under_way, keep=self.model.lookahead)
        yield from self._fetch(under_way, keep=0)

    def _next(self, loaded: Iterator[Loaded]) -> Loaded | None:
        started = perf_counter()
        ready = next(loaded, None)
        self.timings.wait += perf_counter() - started
        return ready

    def _launch(self, staged: Staged) -> Pending:
        started = perf_counter()
        try:
            return staged.launch(self.store_dtype)
        finally:
            self.timings.launch += perf_counter() - started

    def _fetch(self, under_way: UnderWay, *, keep: int) -> Iterator[InferenceResult]:
        while len(under_way) > keep:
            batch, pending = under_way.popleft()
            started = perf_counter()
            fetched = pending.wait()
            self.timings.fetch += perf_counter() - started
            self.timings.add(fetched.seconds)
            yield _result(batch, fetched)

    def _resumed(
        self, plan: BatchPlan, committed: Collection[int], exclude: Collection[int]
    ) -> InferenceResult:
        named = np.unique(np.concatenate([plan.ordinals(index) for index in committed]))
        ordinals = np.setdiff1d(named, np.array(sorted(exclude), dtype=np.uint64))
        vectors = np.empty((0, self.model.dim), dtype=self.store_dtype)
        return InferenceResult(RESUMED, ordinals, vectors, np.empty(0, dtype=np.bool_))


def _result(batch: TokenBatch, fetched: Fetched, split: bool = False) -> InferenceResult:
    return InferenceResult(
        batch.batch_idx, batch.ordinals, fetched.embeddings, fetched.finite, split, fetched.offsets
    )
