"""Linear layers in int8: exact products of integers, and all else in float32.

A weight is w = s_n * q with one scale for each output n, and q in [-127, 127]. The activations of a token are
quantised by themselves, with a scale of its own (dynamic, per token): x = s_t * (u - z), u in [0, 255]. So

    y[t, n] = bias[n] + s_t * s_n * sum over k of (u[t, k] - z) * q[n, k],

where the sum is of int32, and so exact in whatever order it is taken: a token's company cannot change it.
(The scheme is that of LLM.int8(), https://arxiv.org/abs/2208.07339, without its outliers in float16, and of
ZeroQuant, https://arxiv.org/abs/2206.01861.) Unsigned activations are what AVX-512 VNNI and AMX multiply.

Activations of either sign take z = 128. Those that are known never to lie below a floor, as behind a GELU,
are counted from there, x = floor + s_t * u, with twice the resolution; what the floor adds, floor * s_n *
sum over k of q[n, k], is part of the bias.
"""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from gpu_tasks.errors import UnsupportedModel

GELU_FLOOR = -0.17
"""The least value of x * Phi(x) is -0.16997, at x = -0.7518."""
INPUTS_MOST = (2**31 - 1) // (255 * 127)
"""So many products of the largest values fit into an int32."""

_MIDDLE = 128
_TO_INTEGER = 1.5 * 2**23
"""A float32 of this size has steps of 1: adding it rounds to the nearest integer (of two equally near ones
to the even), and the lowest bits say which."""
_LEAST = 1e-30
"""Stands for the size of a token, or of an output's weights, that are all zeros."""


@dataclass(frozen=True, slots=True, eq=False)
class Int8Linear:
    """`packed` is an opaque int8[outputs, inputs]; `scales`, `bias` float32[outputs], `zeros` int64[outputs].

    `floor` is below all inputs, or None where they are of either sign.
    """

    packed: Tensor
    scales: Tensor
    zeros: Tensor
    bias: Tensor
    floor: float | None

    def __call__(self, x: Tensor) -> Tensor:
        """float32 [T, inputs] to [T, outputs]. What is not finite in a token leaves nothing of it finite."""
        quantized, token_scales = quantize_tokens(x, self.floor)
        y = _products(quantized, self.packed, self.scales, self.zeros, _MIDDLE if self.floor is None else 0)
        return torch.addcmul(self.bias, y, token_scales, out=y)


def int8_linear(weight: Tensor, bias: Tensor | None, floor: float | None = None) -> Int8Linear:
    """Quantise weight float32[outputs, inputs].

    Raises:
        UnsupportedModel: its sums could overflow an int32, or this processor's products are not exact.
    """
    outputs, inputs = weight.shape
    if inputs > INPUTS_MOST:
        raise UnsupportedModel(f"int8: a layer of {inputs:,} inputs; {INPUTS_MOST:,} at most: use float32")
    if not is_exact():
        raise UnsupportedModel(NO_INSTRUCTIONS)
    scales = weight.abs().amax(dim=1).clamp_(min=_LEAST) / 127
    quantized = (weight / scales[:, None]).round_().to(torch.int8)
    offset = bias if bias is not None else weight.new_zeros(outputs)
    if floor is not None:
        offset = offset + floor * scales * quantized.sum(dim=1)
    packed = torch.ops.onednn.qlinear_prepack(quantized, None)
    return Int8Linear(packed, scales, torch.zeros(outputs, dtype=torch.int64), offset, floor)


NO_INSTRUCTIONS = (
    "--dtype int8: this processor, or this torch, does not multiply int8 exactly (AVX-512 VNNI, AVX-VNNI or "
    "AMX does); use --dtype float32"
)


def quantize_tokens(x: Tensor, floor: float | None) -> tuple[Tensor, Tensor]:
    """uint8 [T, inputs] and the scale of each token, float32 [T, 1]: NaN and infinity stay in that."""
    most = x.amax(dim=1, keepdim=True)
    if floor is None:
        scales = torch.maximum(most, -x.amin(dim=1, keepdim=True)).clamp_(min=_LEAST) / 127
        rounded = (x * (1 / scales)).add_(_TO_INTEGER + _MIDDLE)
    else:
        scales = (most - floor).clamp_(min=_LEAST) / 255
        rounded = (x - floor).mul_(1 / scales).add_(_TO_INTEGER)
    return rounded.view(torch.int32).to(torch.uint8), scales  # the lowest byte


def _products(u: Tensor, packed: Tensor, scales: Tensor, zeros: Tensor, zero_point: int) -> Tensor:
    """float32 [T, outputs]: scales[n] times the integer sum over k of (u[t, k] - zero_point) * q[n, k]."""
    y: Tensor = torch.ops.onednn.qlinear_pointwise(
        u, 1.0, zero_point, packed, scales, zeros, None, 1.0, 0, torch.float32, "none", [], ""
    )
    return y


@cache
def is_exact() -> bool:
    """Whether the largest products add up: instructions older than VNNI add pairs of them in 16 bits."""
    try:
        u = torch.full((16, 64), 255, dtype=torch.uint8)
        weight = torch.full((32, 64), 127, dtype=torch.int8)
        packed = torch.ops.onednn.qlinear_prepack(weight, None)
        ones, zeros = torch.ones(32), torch.zeros(32, dtype=torch.int64)
        return bool((_products(u, packed, ones, zeros, 0) == 64 * 255 * 127).all())
    except (RuntimeError, AttributeError):  # built without oneDNN, or without a kernel for it
        return False
