"""Linear layers in int8, against integers that numpy adds up in 64 bits."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from gpu_tasks.errors import UnsupportedModel
from gpu_tasks.models.linears import int8
from gpu_tasks.models.linears.int8 import GELU_FLOOR, INPUTS_MOST, int8_linear, is_exact, quantize_tokens

needs_vnni = pytest.mark.skipif(not is_exact(), reason="this processor does not multiply int8 exactly")
SHAPES = [(5, 7), (64, 32), (384, 1152), (1536, 384), (320, 80)]


def layer(inputs: int, outputs: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    made = torch.Generator().manual_seed(seed)
    weight = torch.randn(outputs, inputs, generator=made) * torch.rand(outputs, 1, generator=made)
    return weight, torch.randn(outputs, generator=made)


def tokens(num_tokens: int, inputs: int, *, floor: float | None) -> torch.Tensor:
    x = torch.randn(num_tokens, inputs, generator=torch.Generator().manual_seed(1)) * torch.logspace(
        -2, 2, num_tokens
    ).unsqueeze(1)
    return x if floor is None else functional.gelu(x)


def by_hand(
    weight: torch.Tensor, bias: torch.Tensor, x: torch.Tensor, floor: float | None
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Scales in float32, as they are defined; sums of integers in 64 bits; all else in float64."""
    w, a = weight.numpy(), x.numpy()
    w_scale = np.abs(w).max(axis=1) / np.float32(127)
    q = np.rint(w / w_scale[:, None]).astype(np.int64)
    if floor is None:
        a_scale = np.abs(a).max(axis=1, keepdims=True) / np.float32(127)
        u, least = np.rint(a * (np.float32(1) / a_scale)).astype(np.int64), 0.0
    else:
        a_scale = (a.max(axis=1, keepdims=True) - np.float32(floor)) / np.float32(255)
        u = np.rint((a - np.float32(floor)) * (np.float32(1) / a_scale)).astype(np.int64)
        least = floor
    scales = w_scale.astype(np.float64)
    return a_scale * (u @ q.T) * scales + least * scales * q.sum(axis=1) + bias.numpy()


@needs_vnni
@pytest.mark.parametrize("floor", [None, GELU_FLOOR])
@pytest.mark.parametrize(("inputs", "outputs"), SHAPES)
def test_products_are_those_of_exact_integers(inputs: int, outputs: int, floor: float | None) -> None:
    (weight, bias), x = layer(inputs, outputs), tokens(37, inputs, floor=floor)
    expected = by_hand(weight, bias, x, floor)
    found = int8_linear(weight, bias, floor)(x).numpy()
    # Float32 rounds a few times behind the sum; a sum that is wrong by one is a hundred times as far off.
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@needs_vnni
def test_the_largest_sums_fit() -> None:
    weight, x = torch.ones(3, INPUTS_MOST), torch.ones(2, INPUTS_MOST)
    assert int8_linear(weight, None, 0.0)(x).allclose(torch.full((2, 3), float(INPUTS_MOST)), rtol=1e-6)
    with pytest.raises(UnsupportedModel, match="inputs"):
        int8_linear(torch.ones(1, INPUTS_MOST + 1), None)


@needs_vnni
@pytest.mark.parametrize("floor", [None, GELU_FLOOR])
@pytest.mark.parametrize(("inputs", "outputs"), SHAPES)
def test_a_token_has_the_same_bits_in_any_company(inputs: int, outputs: int, floor: float | None) -> None:
    (weight, bias), x = layer(inputs, outputs), tokens(300, inputs, floor=floor)
    product, random = int8_linear(weight, bias, floor), np.random.default_rng(0)
    together = product(x)
    for num_tokens in (1, 1, 2, 3, 16, 65, 299):
        rows = torch.from_numpy(random.permutation(300)[:num_tokens])
        assert product(x[rows]).equal(together[rows])


@pytest.mark.parametrize("floor", [None, 0.0])
def test_tokens_of_zeros_stay_zeros(floor: float | None) -> None:
    quantized, scales = quantize_tokens(torch.zeros(2, 8), floor)
    assert scales.isfinite().all()
    assert (quantized == (128 if floor is None else 0)).all()


@needs_vnni
@pytest.mark.parametrize("floor", [None, GELU_FLOOR])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_so_and_spoils_no_other_token(value: float, floor: float | None) -> None:
    weight, bias = layer(64, 32)
    x = tokens(3, 64, floor=floor)
    right = int8_linear(weight, bias, floor)(x)
    x[1, 5] = value
    found = int8_linear(weight, bias, floor)(x)
    assert not found[1].isfinite().any()
    assert found[[0, 2]].equal(right[[0, 2]])


def test_nothing_lies_below_the_floor_of_a_gelu() -> None:
    assert functional.gelu(torch.linspace(-8, 8, 100_001)).min() > GELU_FLOOR


def test_a_processor_that_adds_in_16_bits_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def saturated(*_: object) -> torch.Tensor:
        return torch.full((16, 32), 32.0 * 32_767)

    monkeypatch.setattr(int8, "_products", saturated)
    is_exact.cache_clear()
    try:
        with pytest.raises(UnsupportedModel, match="--dtype int8: this processor"):
            int8_linear(*layer(8, 8))
    finally:
        is_exact.cache_clear()
