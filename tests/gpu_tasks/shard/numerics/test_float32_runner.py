"""Where records are computed again whose vectors fewer bits do not hold."""

from dataclasses import dataclass, field

import pytest

from gpu_tasks import load_model
from gpu_tasks.errors import OutOfMemory
from gpu_tasks.inference.batch_plan import TokenBatch
from gpu_tasks.inference.model import EmbeddingModel, Pending, StoreDtype
from gpu_tasks.models.packed import PackedModel
from gpu_tasks.shard.numerics.float32_runner import Float32Runner
from tests.support.jobs_and_inputs import protein
from tests.support.model_directories import plan_for, save_esm2

DEVICE = "cuda:0"


@dataclass
class Host:
    """Loads a model by device, which may have no room for it, or for more than `tokens_most` tokens."""

    model: EmbeddingModel
    has_room: bool = True
    tokens_most: int = 10**6
    error: Exception | None = None
    loaded: list[str] = field(default_factory=list)

    def load(self, device: str) -> EmbeddingModel:
        self.loaded.append(device)
        if device == DEVICE and self.error:
            raise self.error
        if device == DEVICE and not self.has_room:
            raise OutOfMemory("CUDA out of memory")
        return Small(self.model, self.tokens_most) if device == DEVICE else self.model  # type: ignore[return-value]


@dataclass
class Small:
    """The model on a device that has room for so many tokens."""

    model: EmbeddingModel
    tokens_most: int
    lookahead: int = 0

    def stage(self, batch: TokenBatch) -> "Small":
        self.batch = batch
        return self

    def launch(self, store_dtype: StoreDtype) -> Pending:
        if len(self.batch.input_ids) > self.tokens_most:
            raise OutOfMemory("CUDA out of memory")
        return self.model.stage(self.batch).launch(store_dtype)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> PackedModel:
    loaded = load_model(str(save_esm2(tmp_path_factory.mktemp("esm2"))))
    assert isinstance(loaded, PackedModel)
    return loaded


def batches(model: EmbeddingModel) -> list[TokenBatch]:
    """A record each: a short one, and one of many tokens."""
    plan = plan_for(model, [protein(1)[:30], protein(2) * 9], toks_per_batch=40)
    return [plan.batch(index) for index in range(plan.num_batches)]


def test_the_jobs_device_computes_as_long_as_it_has_room(model: PackedModel) -> None:
    host = Host(model)
    runner = Float32Runner(host.load, DEVICE)
    assert all(runner.compute(batch).finite.all() for batch in batches(model))
    assert {*host.loaded} == {DEVICE}


def test_a_device_without_room_for_a_second_model_leaves_it_to_the_processor(model: PackedModel) -> None:
    host = Host(model, has_room=False)
    runner = Float32Runner(host.load, DEVICE)
    for batch in batches(model):
        assert runner.compute(batch).finite.all()
    assert host.loaded == [DEVICE, "cpu", "cpu"]


def test_a_record_that_is_too_large_for_the_device_is_computed_by_the_processor(model: PackedModel) -> None:
    host = Host(model, tokens_most=100)
    runner = Float32Runner(host.load, DEVICE)
    found = {len(batch.input_ids): runner.compute(batch) for batch in batches(model)}
    assert all(result.finite.all() for result in found.values())
    assert sorted(host.loaded) == ["cpu", DEVICE, DEVICE]


def test_a_device_that_is_broken_is_no_device_without_room(model: PackedModel) -> None:
    runner = Float32Runner(Host(model, error=RuntimeError("CUDA error: an illegal access")).load, DEVICE)
    with pytest.raises(RuntimeError, match="illegal access"):
        runner.compute(batches(model)[0])


def test_a_job_of_the_processor_asks_for_no_other_device(model: PackedModel) -> None:
    host = Host(model)
    Float32Runner(host.load, "cpu").compute(batches(model)[0])
    assert host.loaded == ["cpu"]
