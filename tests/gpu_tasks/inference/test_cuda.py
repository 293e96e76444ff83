"""What holds on a CUDA device, where there is one."""

from collections import deque
from pathlib import Path

import numpy as np
import pytest
import torch

from gpu_tasks import AsyncInferenceRunner, load_model
from gpu_tasks.models.layers import attend_runs, attend_varlen, choose_attention
from tests.support.jobs_and_inputs import protein
from tests.support.model_directories import ESM2_8M, MINILM, cosines, embed, plan_for, save_esm2

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

DTYPES = ["float32", "bfloat16", "float16"]
SEQUENCES = [protein(number) for number in range(200)] + [protein(7) * 12, protein(8) * 30]


@pytest.fixture(scope="module")
def esm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_esm2(tmp_path_factory.mktemp("esm2_8m"), **ESM2_8M)


@pytest.fixture(scope="module")
def on_the_cpu(esm2: Path) -> np.ndarray:
    return embed(load_model(str(esm2)), SEQUENCES)


def run(esm2: Path, dtype: str, *, skip: frozenset[int] = frozenset()) -> dict[int, bytes]:
    """The bytes of each batch, by index."""
    model = load_model(str(esm2), device="cuda", dtype=dtype)
    results = AsyncInferenceRunner(model).run(plan_for(model, SEQUENCES), skip=skip)
    return {result.batch_idx: result.embeddings.tobytes() for result in results if result.batch_idx >= 0}


def test_float32_vectors_are_those_of_the_cpu(esm2: Path, on_the_cpu: np.ndarray) -> None:
    vectors = embed(load_model(str(esm2), device="cuda"), SEQUENCES)
    assert cosines(vectors, on_the_cpu).min() > 0.9999
    np.testing.assert_allclose(vectors, on_the_cpu, atol=1e-3)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_stays_close_to_the_cpu(esm2: Path, on_the_cpu: np.ndarray, dtype: str) -> None:
    vectors = embed(load_model(str(esm2), device="cuda", dtype=dtype), SEQUENCES)
    assert cosines(vectors, on_the_cpu).min() > 0.99


@pytest.mark.parametrize("dtype", DTYPES)
def test_two_runs_yield_the_same_bytes(esm2: Path, dtype: str) -> None:
    assert run(esm2, dtype) == run(esm2, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_resumed_run_yields_the_bytes_of_an_undisturbed_one(esm2: Path, dtype: str) -> None:
    whole = run(esm2, dtype)
    assert len(whole) > 4
    committed = frozenset({0, 2, 3})
    rest = run(esm2, dtype, skip=committed)
    assert rest == {index: rows for index, rows in whole.items() if index not in committed}


def test_one_batch_is_under_way_while_another_is_fetched(esm2: Path) -> None:
    model = load_model(str(esm2), device="cuda")
    started: list[int] = []
    for result in AsyncInferenceRunner(model).run(plan_for(model, SEQUENCES), on_start=started.append):
        assert started[-1] == min(result.batch_idx + 1, plan_for(model, SEQUENCES).num_batches - 1)


def test_the_device_tells_how_long_each_station_took(esm2: Path) -> None:
    model = load_model(str(esm2), device="cuda")
    runner = AsyncInferenceRunner(model)
    deque(runner.run(plan_for(model, SEQUENCES)), maxlen=0)
    timings = runner.timings
    assert min(timings.copy_in, timings.compute, timings.copy_out) > 0
    assert timings.compute > timings.copy_in + timings.copy_out


def test_minilm_has_the_vectors_of_the_cpu() -> None:
    texts = [f"{protein(number)[:9]} kinase, putative {number}" * (1 + number % 5) for number in range(60)]
    vectors = embed(load_model(str(MINILM), device="cuda"), texts)
    np.testing.assert_allclose(vectors, embed(load_model(str(MINILM)), texts), atol=1e-4)


def test_half_precision_runs_on_the_varlen_kernel_where_there_is_one() -> None:
    device = torch.device("cuda")
    if torch.cuda.get_device_capability(device) < (8, 0):
        pytest.skip("needs compute capability 8.0")
    assert choose_attention(device, torch.float16, 16) is attend_varlen
    assert choose_attention(device, torch.float32, 16) is attend_runs
