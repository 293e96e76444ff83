"""What plain torch does between a layer's matrix products, by kernels of our own.

What that saves, in bytes: with U those of a hidden state, plain torch moves 10 U to rotate query and key, in
four strided kernels, and 5 U for a residual and its norm, in two. Here it is 4 U, and 4 U (post-norm layers,
which keep no sum, 3 U). GELU stays torch's: the product before it has added the bias already, so that only a
product that ends in it would save its 8 U, and cuBLASLt's knows it by tanh alone, which is another function.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from gpu_tasks.models.kernels.compiled import Launch, Types
from gpu_tasks.models.layers import Attention, Bias, Kernels, LayerNorm, Packed, attend_varlen

ROWS = 32
"""Heads of tokens that one program rotates."""
_NORM_PER_WARP = 512
_WARPS_MOST = 8


@dataclass(frozen=True, slots=True)
class Shape:
    """What the kernels of a model are compiled for. `eps` is its layer norms'."""

    num_heads: int
    head_dim: int
    eps: float
    dtype: torch.dtype

    @property
    def dim(self) -> int:
        return self.num_heads * self.head_dim


@dataclass(frozen=True, slots=True)
class Build:
    """A function of `jitted` by its name, with the types of its arguments and its constants."""

    name: str
    types: Types
    constants: Mapping[str, object]
    num_warps: int


def fused_kernels(
    shape: Shape, build: Callable[[Build], Launch], plain: Kernels, *, rotary: bool, biased: bool
) -> Kernels:
    """With attention of our own where plain torch calls once for each length: in float32, or with a bias."""
    attention = attend_flash if plain.attention is attend_varlen else plain.attention
    if shape.dtype == torch.float32 and not biased:
        attention = partial(attend, build(attend_build(shape, biased=False)), _blocks(shape)[0])
    return Kernels(
        attention=attention,
        biased=partial(biased_attention, build(attend_build(shape, biased=True)), _blocks(shape)[0])
        if biased
        else plain.biased,
        rotate=partial(rotate, build(rotate_build(shape))) if rotary else plain.rotate,
        add_norm=partial(add_norm, build(norm_build(shape, keep_sum=True))),
        norm_sum=partial(norm_sum, build(norm_build(shape, keep_sum=False))),
    )


def rotate_build(shape: Shape) -> Build:
    half = shape.head_dim // 2
    constants = {"HEADS": 2 * shape.num_heads, "STRIDE": 3 * shape.dim, "HALF": half}
    constants |= {"ROWS": ROWS, "PAIRS": _power_of_two(half)}
    types: Types = {"qkv": shape.dtype, "cos": shape.dtype, "sin": shape.dtype, "num_rows": int}
    return Build("rotate", types, constants, num_warps=4)


def rotate(launch: Launch, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """As `layers.rotate`, in place: `x` is the first two thirds of a buffer [T, 3, heads, head_dim]."""
    num_rows = x.shape[0] * x.shape[1] * x.shape[2]
    launch((-(-num_rows // ROWS), 1, 1), x, cos, sin, num_rows)
    return x


def norm_build(shape: Shape, *, keep_sum: bool) -> Build:
    block = _power_of_two(shape.dim)
    constants = {"DIM": shape.dim, "EPS": shape.eps, "BLOCK": block, "KEEP_SUM": keep_sum}
    types: Types = dict.fromkeys(["x", "added", "normed", "weight", "bias"], shape.dtype)
    return Build("add_norm", types, constants, min(max(block // _NORM_PER_WARP, 1), _WARPS_MOST))


def add_norm(launch: Launch, x: Tensor, added: Tensor, norm: LayerNorm) -> tuple[Tensor, Tensor]:
    """As `layers.add_norm`; the sum takes the place of `added`."""
    normed = torch.empty_like(added)
    launch((len(x), 1, 1), x, added, normed, norm.weight, norm.bias)
    return added, normed


def norm_sum(launch: Launch, x: Tensor, added: Tensor, norm: LayerNorm) -> Tensor:
    """As `layers.norm_sum`, in the place of `added`."""
    launch((len(x), 1, 1), x, added, added, norm.weight, norm.bias)
    return added


def attend_flash(query: Tensor, key: Tensor, value: Tensor, packed: Packed) -> Tensor:
    """What `layers.attend_varlen` calls, without the kernel by which that sets a seed to zero each time."""
    bounds, longest = packed.cu_seqlens, packed.max_seqlen
    attended: Tensor = torch.ops.aten._flash_attention_forward(
        query, key, value, bounds, bounds, longest, longest, 0.0, False, False
    )[0]
    return attended.flatten(1)


def attend_build(shape: Shape, *, biased: bool) -> Build:
    queries, keys, num_warps = _blocks(shape)
    constants: dict[str, object] = {"SCALE": shape.head_dim**-0.5, "HEADS": shape.num_heads}
    constants |= {"DIM": shape.head_dim, "STRIDE": 3 * shape.dim, "BIASED": biased}
    constants |= {"QUERIES": queries, "KEYS": keys, "DIMS": max(16, _power_of_two(shape.head_dim))}
    tensors = ["query", "key", "value", "by_offset", "attended"]
    types: Types = {**dict.fromkeys(tensors, shape.dtype), "cu_seqlens": torch.int32, "reach": int}
    return Build("attend", types, constants, num_warps)


def attend(
    launch: Launch,
    queries: int,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    packed: Packed,
    by_offset: Tensor | None = None,
) -> Tensor:
    """See Attention; in one call, for blocks of so many queries. The three are thirds of one buffer.

    `by_offset` is as in Bias.
    """
    num_tokens, num_heads, head_dim = query.shape
    attended = torch.empty((num_tokens, num_heads * head_dim), dtype=query.dtype, device=query.device)
    bias = query if by_offset is None else by_offset
    reach = 0 if by_offset is None else by_offset.shape[1] // 2
    grid = (len(packed.cu_seqlens) - 1, num_heads, -(-packed.max_seqlen // queries))
    launch(grid, query, key, value, bias, attended, packed.cu_seqlens, reach)
    return attended


def biased_attention(launch: Launch, queries: int, packed: Packed, bias: Bias) -> Attention:
    """As `layers.biased_runs`: of the bias there is a number for each head and offset, and no square."""
    return partial(attend, launch, queries, by_offset=bias.for_offsets(packed.max_seqlen))


def _blocks(shape: Shape) -> tuple[int, int, int]:
    """Queries and keys of a block, and warps: as many as the registers hold (ptxas, sm_80 and sm_90)."""
    if shape.head_dim > 128:
        return 32, 32, 8
    if shape.head_dim > 64:
        return (32, 32, 8) if shape.dtype == torch.float32 else (64, 32, 8)
    return (64, 32, 8) if shape.dtype == torch.float32 else (64, 64, 4)


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()
