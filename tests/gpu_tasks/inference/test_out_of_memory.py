"""What happens to a batch that does not fit: once more whole, then in halves."""

import contextlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from gpu_tasks.errors import OutOfMemory, RecordTooLarge
from gpu_tasks.inference.batch_plan import TokenBatch
from gpu_tasks.inference.model import HostPending, StoreDtype
from gpu_tasks.inference.runner import AsyncInferenceRunner, InferenceResult
from gpu_tasks.models.mock import MockModel, MockStaged
from tests.support.jobs_and_inputs import protein
from tests.support.model_directories import plan_for


@dataclass(frozen=True, slots=True)
class SmallMock(MockModel):
    """A mock on a device that holds `room` tokens, and is full at the attempts of which it is told.

    `launched` holds the number of tokens of every attempt, `staged` that of every upload; `no_room_at`
    names the uploads that already fail.
    """

    room: int = 10_000
    full_at: tuple[int, ...] = ()
    no_room_at: tuple[int, ...] = ()
    launched: list[int] = field(default_factory=list)
    staged: list[int] = field(default_factory=list)

    def stage(self, batch: TokenBatch) -> "SmallStaged":
        self.staged.append(len(batch.input_ids))
        if len(self.staged) - 1 in self.no_room_at:
            raise OutOfMemory("full")
        return SmallStaged(self, batch)


@dataclass(frozen=True, slots=True)
class SmallStaged(MockStaged):
    model: SmallMock

    def launch(self, store_dtype: StoreDtype) -> HostPending:
        attempt, num_tokens = len(self.model.launched), len(self.batch.input_ids)
        self.model.launched.append(num_tokens)
        if num_tokens > self.model.room or attempt in self.model.full_at:
            raise OutOfMemory("full")
        return MockStaged.launch(self, store_dtype)


def make_batch(num_records: int) -> TokenBatch:
    sequences = [protein(number) for number in range(num_records)]
    return plan_for(MockModel("mock:8", 8), sequences, toks_per_batch=10_000).batch(0)


def undisturbed(batch: TokenBatch) -> np.ndarray:
    return MockModel("mock:8", 8).stage(batch).launch("float32").wait().embeddings


def test_a_batch_that_fits_at_the_second_try_is_not_split() -> None:
    batch = make_batch(8)
    model = SmallMock("mock:8", 8)
    result = AsyncInferenceRunner(model).compute(batch)
    assert not result.split
    assert model.launched == [len(batch.input_ids)]
    assert result.embeddings.tobytes() == undisturbed(batch).tobytes()


@pytest.mark.parametrize("num_records", [2, 3, 8, 13])
def test_a_split_batch_has_the_same_rows_in_the_same_order(num_records: int) -> None:
    batch = make_batch(num_records)
    model = SmallMock("mock:8", 8, room=batch.max_seqlen)
    result = AsyncInferenceRunner(model).compute(batch)
    assert result.split
    assert result.embeddings.tobytes() == undisturbed(batch).tobytes()
    assert result.finite.tolist() == [True] * num_records


def test_it_is_tried_whole_first_and_then_in_halves_not_smaller_than_needed() -> None:
    batch = make_batch(8)
    tokens = len(batch.input_ids)
    half = int(batch.cu_seqlens[4])
    model = SmallMock("mock:8", 8, room=tokens - 1)
    AsyncInferenceRunner(model).compute(batch)
    assert model.launched == [tokens, half, tokens - half]


def test_a_single_segment_that_does_not_fit_is_named_with_its_length() -> None:
    batch = make_batch(8)
    model = SmallMock("mock:8", 8, room=batch.max_seqlen - 1)
    with pytest.raises(RecordTooLarge, match=f"a segment of {batch.max_seqlen} tokens") as refused:
        AsyncInferenceRunner(model).compute(batch)
    assert refused.value.ordinal == batch.ordinals[0]
    assert refused.value.num_tokens == batch.max_seqlen


# ---- in the runner

SEQUENCES = [protein(number) for number in range(40)]


def run(model: MockModel) -> list[InferenceResult]:
    return list(AsyncInferenceRunner(model).run(plan_for(model, SEQUENCES, toks_per_batch=500)))


def assert_same_rows(results: list[InferenceResult]) -> None:
    expected = run(MockModel("mock:8", 8))
    assert [result.batch_idx for result in results] == [result.batch_idx for result in expected]
    for result, other in zip(results, expected, strict=True):
        assert result.ordinals.tolist() == other.ordinals.tolist()
        assert result.embeddings.tobytes() == other.embeddings.tobytes()


@pytest.mark.parametrize("lookahead", [0, 2])
def test_the_batches_that_were_split_and_no_others_are_marked(lookahead: int) -> None:
    model = SmallMock("mock:8", 8, room=480, lookahead=lookahead)
    plan = plan_for(model, SEQUENCES, toks_per_batch=500)
    too_large = [len(plan.batch(index).input_ids) > model.room for index in range(plan.num_batches)]
    assert set(too_large) == {False, True}
    results = run(model)
    assert [result.split for result in results] == too_large
    assert_same_rows(results)


@pytest.mark.parametrize("lookahead", [0, 2])
def test_a_batch_that_fits_once_the_others_have_left_is_neither_split_nor_out_of_turn(lookahead: int) -> None:
    model = SmallMock("mock:8", 8, full_at=(3,), lookahead=lookahead)
    results = run(model)
    assert model.launched[3] == model.launched[4]
    assert not any(result.split for result in results)
    assert_same_rows(results)


def test_a_segment_that_does_not_fit_alone_reaches_the_caller_after_the_batches_before_it() -> None:
    model = SmallMock("mock:8", 8, full_at=tuple(range(2, 100)), lookahead=1)
    results = AsyncInferenceRunner(model).run(plan_for(model, SEQUENCES, toks_per_batch=500))
    assert [next(results).batch_idx, next(results).batch_idx] == [0, 1]
    with pytest.raises(RecordTooLarge):
        next(results)


# ---- full before anything is computed


@pytest.mark.parametrize("lookahead", [0, 2])
def test_a_batch_that_cannot_be_uploaded_beside_others_is_tried_again_in_its_turn(lookahead: int) -> None:
    model = SmallMock("mock:8", 8, no_room_at=(3,), lookahead=lookahead)
    results = run(model)
    assert not any(result.split for result in results)
    assert len(model.launched) == len(results)
    assert_same_rows(results)


def test_a_batch_that_can_never_be_uploaded_whole_is_split() -> None:
    batch = make_batch(8)
    model = SmallMock("mock:8", 8, no_room_at=(0,))
    result = AsyncInferenceRunner(model).compute(batch)
    assert result.split
    assert len(model.launched) == 2
    assert result.embeddings.tobytes() == undisturbed(batch).tobytes()


def test_a_full_device_is_the_products_own_error_already_at_upload(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from gpu_tasks.inference import torch_device
    from gpu_tasks.inference.torch_device import CudaDevice

    def full(tensor: object, device: object, **how: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB")

    emptied: list[bool] = []
    stream: Any = None
    monkeypatch.setattr(torch_device, "_station", lambda name, stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(True))
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    monkeypatch.setattr(torch.Tensor, "to", full)
    device = CudaDevice(torch.device("cuda"), copy_in=stream, compute=stream, copy_out=stream)
    with pytest.raises(OutOfMemory, match="Tried to allocate"):
        device.upload(np.arange(3))
    assert emptied == [True]
