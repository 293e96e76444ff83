"""Linear layers with weights laid out beforehand, against sums in float64."""

import numpy as np
import pytest
import torch

from gpu_tasks.models.linears.prepacked import can_prepack, prepacked

CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(not can_prepack(CPU, torch.float32), reason="no AVX-512 here")


@pytest.mark.parametrize(("inputs", "outputs"), [(3, 5), (384, 1152), (1536, 384), (1280, 320)])
@pytest.mark.parametrize("biased", [True, False])
def test_it_is_a_linear_layer(inputs: int, outputs: int, biased: bool) -> None:
    made = torch.Generator().manual_seed(0)
    x, weight = torch.randn(129, inputs, generator=made), torch.randn(outputs, inputs, generator=made)
    bias = torch.randn(outputs, generator=made) if biased else None
    expected = x.double().numpy() @ weight.double().numpy().T + (0 if bias is None else bias.numpy())
    np.testing.assert_allclose(prepacked(weight, bias)(x), expected, atol=1e-6 * inputs)


def test_a_token_has_the_same_bits_in_any_company_of_two_or_more() -> None:
    made = torch.Generator().manual_seed(0)
    product = prepacked(torch.randn(384, 1536, generator=made), torch.randn(384, generator=made))
    x = torch.randn(700, 1536, generator=made)
    together = product(x)
    for num_tokens in (2, 3, 5, 16, 63, 64, 65, 255, 512, 699):
        assert product(x[:num_tokens].contiguous()).equal(together[:num_tokens])


def test_a_gpu_and_half_precision_have_their_own_kernels() -> None:
    assert not can_prepack(torch.device("cuda"), torch.bfloat16)
    assert not can_prepack(CPU, torch.float16)
