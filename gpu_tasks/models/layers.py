"""The pieces that transformer encoders are made of, on packed tokens."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """A batch on the device.

    `input_ids` and `positions` (see `positions_of`) are int64[T], `cu_seqlens` int32[n + 1], `bounds`
    int64[3n + 1] and `firsts` int64[n] as in RowTokens. `runs` stays on the host: (count, length) of
    neighbouring rows of equal length; there are few, as the planner sorts by length.
    """

    input_ids: Tensor
    positions: Tensor
    cu_seqlens: Tensor
    bounds: Tensor
    firsts: Tensor
    runs: tuple[tuple[int, int], ...]
    max_seqlen: int


class Encoder(Protocol):
    """A transformer without its readout."""

    def __call__(self, packed: Packed, layers: tuple[int, ...]) -> list[Tensor]:
        """Hidden states [T, dim] behind each of these layers; 0 is before the first. No later layer runs."""
        ...


def tap(states: Iterator[Tensor], layers: tuple[int, ...]) -> list[Tensor]:
    """Those of these layers, in their order, of the states from layer 0 on."""
    found = {layer: hidden for layer, hidden in enumerate(states) if layer in layers}
    return [found[layer] for layer in layers]


Attention = Callable[[Tensor, Tensor, Tensor, Packed], Tensor]
"""Query, key and value, each [T, heads, head_dim], to [T, heads * head_dim]; rows attend to themselves."""
Project = Callable[[Tensor], Tensor]
"""A linear layer, [T, inputs] to [T, outputs]."""
# CUDA's kernels copy a bias whose rows begin elsewhere.
_ALIGNED = 8


class Bias(Protocol):
    """What attention scores get on top, by how far the key stands from the query."""

    def __call__(self, length: int) -> Tensor:
        """Of a row of L tokens, by their places: [heads, L, L]."""
        ...

    def for_offsets(self, length: int) -> Tensor:
        """The same by offset: [heads, 2 * reach + 1], for keys `reach` before the query to `reach` behind.

        Keys farther away than that, of which a row of L tokens may have some, have the bias of the farthest.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    weight: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight, self.bias)


@dataclass(frozen=True, slots=True, eq=False)
class LayerNorm:
    weight: Tensor
    bias: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions (https://arxiv.org/abs/2104.09864) on [T, 2, heads, head_dim], halves paired."""
    rotated = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    first, second = x.chunk(2, dim=-1)
    left, right = rotated.chunk(2, dim=-1)
    torch.mul(first, cos, out=left).addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=right).addcmul_(first, sin)
    return rotated


def add_norm(x: Tensor, added: Tensor, norm: LayerNorm) -> tuple[Tensor, Tensor]:
    """The sum of two, and its norm, as pre-norm layers go on with. `added` may be overwritten."""
    total = x + added
    return total, norm(total)


def norm_sum(x: Tensor, added: Tensor, norm: LayerNorm) -> Tensor:
    """The norm of the sum of two, as post-norm layers go on with. `added` may be overwritten."""
    return norm(x + added)


def biased_runs(packed: Packed, bias: Bias) -> Attention:
    """Attention with a bias, which is made once for a batch: all layers and all lengths share it."""
    return partial(attend_runs, bias=bias(-(-packed.max_seqlen // _ALIGNED) * _ALIGNED))


@dataclass(frozen=True, slots=True, eq=False)
class Kernels:
    """What runs between a layer's matrix products: plain torch's, or what `kernels.choose` has for a device.

    `rotate` may turn its argument in place.
    """

    attention: Attention
    biased: Callable[[Packed, Bias], Attention] = biased_runs
    rotate: Callable[[Tensor, Tensor, Tensor], Tensor] = rotate
    add_norm: Callable[[Tensor, Tensor, LayerNorm], tuple[Tensor, Tensor]] = add_norm
    norm_sum: Callable[[Tensor, Tensor, LayerNorm], Tensor] = norm_sum


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """The weights of one encoder layer; pre-norm and post-norm models use them in different orders.

    Where the feed-forward is gated, `up` has its outputs twice.
    """

    qkv: Project
    attention_out: Project
    attention_norm: LayerNorm
    up: Project
    down: Project
    mlp_norm: LayerNorm


def choose_attention(device: torch.device, dtype: torch.dtype, head_dim: int) -> Attention:
    """FlashAttention over the whole pack where there is a kernel for it, else one call per run."""
    if device.type != "cuda" or dtype == torch.float32 or head_dim % 8 or head_dim > 256:
        return attend_runs
    if torch.cuda.get_device_capability(device) < (8, 0):
        return attend_runs
    # Since torch 2.10.
    return attend_varlen if find_spec("torch.nn.attention.varlen") else attend_runs


def attend_runs(
    query: Tensor, key: Tensor, value: Tensor, packed: Packed, bias: Tensor | None = None
) -> Tensor:
    """Unpadded attention without a varlen kernel: rows of equal length are neighbours and share a call.

    `bias` [heads, L, L], L at least the longest row, is cut to the length of each.
    """
    attended = torch.empty(query.shape, dtype=query.dtype, device=query.device)
    for length, (q, k, v, out) in by_run(packed, query, key, value, attended):
        mask = None if bias is None else bias[None, :, :length, :length]
        out.copy_(functional.scaled_dot_product_attention(q, k, v, attn_mask=mask))
    return attended.flatten(1)


def by_run(packed: Packed, *parts: Tensor) -> Iterator[tuple[int, list[Tensor]]]:
    """Rows of equal length, which are neighbours, together: their length, and what each part [T, heads, n]
    holds of them, as a view [count, heads, length, n] that may be written to."""
    start = 0
    for count, length in packed.runs:
        rows = slice(start, start + count * length)
        yield length, [x[rows].view(count, length, *x.shape[1:]).transpose(1, 2) for x in parts]
        start = rows.stop


def attend_varlen(query: Tensor, key: Tensor, value: Tensor, packed: Packed) -> Tensor:
    """FlashAttention with the row bounds on the device. CUDA, bfloat16 or float16."""
    from torch.nn.attention.varlen import varlen_attn

    bounds, longest = packed.cu_seqlens, packed.max_seqlen
    attended = varlen_attn(query, key, value, bounds, bounds, longest, longest)
    assert isinstance(attended, Tensor)  # a pair only when auxiliary outputs are asked for
    return attended.flatten(1)


def feed_forward(layer: Layer, x: Tensor) -> Tensor:
    """The exact GELU, through erf: both BERT and ESM-2 were trained with it."""
    return layer.down(functional.gelu(layer.up(x)))


def gated_feed_forward(layer: Layer, x: Tensor) -> Tensor:
    """The first half of `up` gates the second (GeGLU, https://arxiv.org/abs/2002.05202)."""
    gate, inner = layer.up(x).chunk(2, dim=-1)
    return layer.down(functional.gelu(gate) * inner)
