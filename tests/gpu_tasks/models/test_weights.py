"""Weights: converted where they are wanted, to the bits that the processor rounds to."""

from pathlib import Path

import pytest
import torch

from gpu_tasks.models.weights import native_weights
from tests.support.model_directories import save_esm2, spec_of
from tests.support.torch_devices import DEVICES

NAME = "encoder.layer.0.attention.self.query.weight"


def taken(
    directory: Path, stored: torch.Tensor, device: str, dtype: torch.dtype, scale: float
) -> torch.Tensor:
    tensors = {"embeddings.word_embeddings.weight": torch.zeros(1), NAME: stored}
    weights = native_weights(spec_of(directory), tensors, torch.device(device), dtype, "plain")
    return weights.tensor(NAME, *stored.shape, scale=scale)


def every_number() -> torch.Tensor:
    """Of bfloat16 all but those that are no number, and of float32 what lies half-way between two of them."""
    bits = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    numbers = bits.view(torch.bfloat16).float()
    numbers = numbers[numbers.isfinite()]
    halfway = (numbers.view(torch.int32) + 0x8000).view(torch.float32)
    return torch.cat([numbers, halfway[halfway.isfinite()]])


@pytest.fixture(scope="module")
def esm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_esm2(tmp_path_factory.mktemp("esm2"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_weight_of_the_wanted_dtype_is_taken_as_it_is_stored(esm2: Path, dtype: torch.dtype) -> None:
    stored = torch.ones(3, 2, dtype=dtype)
    assert taken(esm2, stored, "cpu", dtype, 1.0).data_ptr() == stored.data_ptr()


@pytest.mark.parametrize("scale", [1.0, 0.3])
@pytest.mark.parametrize("wanted", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("device", DEVICES)
def test_a_weight_is_rounded_to_the_bits_that_the_processor_rounds_to_through_float32(
    esm2: Path, device: str, stored: torch.dtype, wanted: torch.dtype, scale: float
) -> None:
    numbers = every_number().to(stored)
    expected = numbers.float() if scale == 1.0 else numbers.float() * scale
    found = taken(esm2, numbers, device, wanted, scale).cpu()
    assert torch.equal(found, expected.to(wanted))
