"""The promises of the inference loop."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from gpu_tasks import AsyncInferenceRunner, load_model
from gpu_tasks.inference.batch_plan import BatchPlan, TokenBatch
from gpu_tasks.inference.model import HostPending, StoreDtype
from gpu_tasks.inference.runner import RESUMED, InferenceResult
from gpu_tasks.models.mock import MockModel, MockStaged
from tests.support.jobs_and_inputs import protein
from tests.support.model_directories import MINILM, plan_for

SEQUENCES = [protein(number) for number in range(60)] + [protein(0) * 60]
"""The last is cut in windows."""


@dataclass(frozen=True, slots=True)
class WatchedMock(MockModel):
    """A mock that notes which batches were staged and launched, and fails where it is told to."""

    staged: list[int] = field(default_factory=list)
    launched: list[int] = field(default_factory=list)
    fail_staging: int | None = None
    fail_launching: int | None = None

    def stage(self, batch: TokenBatch) -> "WatchedStaged":
        self.staged.append(batch.batch_idx)
        if batch.batch_idx == self.fail_staging:
            raise ConnectionError("the device has left")
        return WatchedStaged(self, batch)


@dataclass(frozen=True, slots=True)
class WatchedStaged(MockStaged):
    model: WatchedMock

    def launch(self, store_dtype: StoreDtype) -> HostPending:
        self.model.launched.append(self.batch.batch_idx)
        if self.batch.batch_idx == self.model.fail_launching:
            raise ConnectionError("the device has left")
        return MockStaged.launch(self, store_dtype)


def make_plan() -> BatchPlan:
    """Twelve batches."""
    return plan_for(MockModel("mock:8", 8), SEQUENCES, toks_per_batch=500, window_overlap=100)


def run(model: MockModel | None = None, **options: object) -> list[InferenceResult]:
    runner = AsyncInferenceRunner(model or MockModel("mock:8", 8))
    return list(runner.run(make_plan(), **options))  # type: ignore[arg-type]


def as_bytes(results: list[InferenceResult]) -> dict[int, tuple[bytes, bytes]]:
    return {result.batch_idx: (result.ordinals.tobytes(), result.embeddings.tobytes()) for result in results}


def loader_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("holdfast-loader")]


# ---- all batches


@pytest.mark.parametrize("lookahead", [0, 1, 20])
@pytest.mark.parametrize("depth", [1, 3])
def test_every_batch_of_the_plan_comes_out_once_and_in_its_order(lookahead: int, depth: int) -> None:
    model, plan = MockModel("mock:8", 8, lookahead=lookahead), make_plan()
    results = list(AsyncInferenceRunner(model, depth=depth).run(plan))
    assert [result.batch_idx for result in results] == list(range(plan.num_batches))
    for result in results:
        assert result.ordinals.tolist() == plan.ordinals(result.batch_idx).tolist()
        alone = model.stage(plan.batch(result.batch_idx)).launch("float32").wait()
        assert result.embeddings.tobytes() == alone.embeddings.tobytes()


@pytest.mark.parametrize("depth", [0, -1])
def test_a_runner_that_could_never_load_a_batch_is_refused_by_name(depth: int) -> None:
    with pytest.raises(ValueError, match=f"depth={depth}: .*at least 1"):
        AsyncInferenceRunner(MockModel("mock:8", 8), depth=depth)


def test_two_runs_yield_the_same_bytes() -> None:
    assert as_bytes(run()) == as_bytes(run())


def test_an_empty_plan_yields_nothing() -> None:
    model = MockModel("mock:8", 8)
    assert list(AsyncInferenceRunner(model).run(plan_for(model, []))) == []


def test_vectors_come_in_the_dtype_of_the_store() -> None:
    plan = make_plan()
    result = next(AsyncInferenceRunner(MockModel("mock:8", 8), store_dtype="float16").run(plan))
    assert result.embeddings.dtype == np.float16
    assert result.embeddings.tobytes() == run()[0].embeddings.astype(np.float16).tobytes()


def test_a_batch_computed_by_itself_has_the_bytes_of_the_run() -> None:
    runner, plan = AsyncInferenceRunner(MockModel("mock:8", 8)), make_plan()
    assert as_bytes([runner.compute(plan.batch(5))])[5] == as_bytes(run())[5]


# ---- what is committed or quarantined


def test_a_resumed_run_first_names_the_committed_records() -> None:
    plan = make_plan()
    first = run(skip={0, 3})[0]
    assert first.batch_idx == RESUMED == -1
    assert first.ordinals.tolist() == sorted({*plan.ordinals(0).tolist(), *plan.ordinals(3).tolist()})
    assert first.embeddings.shape == (0, 8)


def test_a_fresh_run_has_no_resumed_result() -> None:
    assert RESUMED not in as_bytes(run(skip=set()))


def test_committed_batches_are_neither_loaded_nor_computed_again() -> None:
    model, plan = WatchedMock("mock:8", 8), make_plan()
    run(model, skip={0, 3})
    rest = [index for index in range(plan.num_batches) if index not in (0, 3)]
    assert model.staged == model.launched == rest


def test_an_interrupted_run_and_its_resumption_yield_the_bytes_of_one() -> None:
    results = AsyncInferenceRunner(MockModel("mock:8", 8)).run(make_plan())
    before = [next(results) for _ in range(4)]
    results.close()  # type: ignore[attr-defined]
    after = run(skip={result.batch_idx for result in before})[1:]
    assert as_bytes(before) | as_bytes(after) == as_bytes(run())


def test_a_run_of_which_all_is_committed_only_says_so() -> None:
    assert [result.batch_idx for result in run(skip=range(make_plan().num_batches))] == [RESUMED]


def test_records_set_aside_leave_the_rows_of_the_others_as_they_are() -> None:
    aside = {5, 7, len(SEQUENCES) - 1}
    for result, whole in zip(run(exclude=aside), run(), strict=True):
        kept = ~np.isin(whole.ordinals, list(aside))
        assert result.ordinals.tolist() == whole.ordinals[kept].tolist()
        assert result.embeddings.tobytes() == whole.embeddings[kept].tobytes()
        assert len(result.finite) == len(result.ordinals)


def test_a_batch_of_which_nothing_is_left_is_still_a_result() -> None:
    aside = make_plan().ordinals(4).tolist()
    result = run(exclude=aside)[4]
    assert (result.batch_idx, result.embeddings.shape, result.finite.shape) == (4, (0, 8), (0,))


def test_records_set_aside_are_not_named_as_committed() -> None:
    aside = make_plan().ordinals(4).tolist()[:1]
    assert not np.isin(run(skip={4}, exclude=aside)[0].ordinals, aside).any()


# ---- what is under way


@pytest.mark.parametrize("lookahead", [0, 1, 2])
def test_so_many_batches_are_under_way_beside_the_one_that_is_fetched(lookahead: int) -> None:
    model = WatchedMock("mock:8", 8, lookahead=lookahead)
    last = make_plan().num_batches - 1
    for result in AsyncInferenceRunner(model).run(make_plan()):
        assert model.launched[-1] == min(result.batch_idx + lookahead, last)


def test_on_start_is_told_right_before_a_batch_is_launched() -> None:
    model = WatchedMock("mock:8", 8, lookahead=1)
    started: list[int] = []

    def note(batch_idx: int) -> None:
        assert model.launched == started
        started.append(batch_idx)

    run(model, on_start=note)
    assert started == list(range(make_plan().num_batches))


@pytest.mark.parametrize("lookahead", [0, 1])
def test_a_run_that_is_told_to_stop_still_yields_what_is_under_way(lookahead: int) -> None:
    model = WatchedMock("mock:8", 8, lookahead=lookahead)
    results = run(model, should_stop=lambda: len(model.launched) == 3)
    assert [result.batch_idx for result in results] == model.launched == [0, 1, 2]
    assert not loader_threads()


def test_the_loader_is_never_further_ahead_than_its_depth() -> None:
    model = WatchedMock("mock:8", 8)
    for taken, result in enumerate(AsyncInferenceRunner(model, depth=2).run(make_plan()), start=1):
        list(run())
        assert result.batch_idx < len(model.staged) <= taken + 2


def test_batches_come_in_the_order_asked_for_and_as_often() -> None:
    results = run(order=[4, 0, 4])
    assert [result.batch_idx for result in results] == [4, 0, 4]
    assert results[0].embeddings.tobytes() == as_bytes(run())[4][1]


# ---- the end


def test_a_run_that_is_closed_early_leaves_no_thread() -> None:
    results = AsyncInferenceRunner(MockModel("mock:8", 8)).run(make_plan())
    next(results)
    assert loader_threads()
    results.close()  # type: ignore[attr-defined]
    assert not loader_threads()


def test_a_finished_run_leaves_no_thread() -> None:
    run()
    assert not loader_threads()


def fail_in_on_start(batch_idx: int) -> None:
    if batch_idx == 5:
        raise ConnectionError("the device has left")


FAILURES: list[tuple[WatchedMock, Callable[[int], None] | None]] = [
    (WatchedMock("mock:8", 8, fail_staging=5), None),
    (WatchedMock("mock:8", 8, fail_launching=5), None),
    (WatchedMock("mock:8", 8), fail_in_on_start),
]


@pytest.mark.parametrize(("model", "on_start"), FAILURES, ids=["staging", "launching", "on_start"])
def test_what_goes_wrong_reaches_the_caller_at_its_batch(
    model: WatchedMock, on_start: Callable[[int], None] | None
) -> None:
    results = AsyncInferenceRunner(model).run(make_plan(), on_start=on_start)
    assert [next(results).batch_idx for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(ConnectionError, match="the device has left"):
        next(results)
    assert not loader_threads()


# ---- where the time went


def test_on_the_host_launching_a_batch_is_computing_it() -> None:
    model = load_model(str(MINILM))
    runner = AsyncInferenceRunner(model)
    results = list(runner.run(plan_for(model, ["a protein kinase", "of", "a ribosome " * 40])))
    timings = runner.timings
    assert len(results) > 0
    assert 0 < timings.compute <= timings.launch
    assert (timings.copy_in, timings.copy_out) == (0, 0)
    assert str(timings).startswith(f"wait={timings.wait:.3f}s launch={timings.launch:.3f}s fetch=")
