"""Attention with a bias by the distance of two tokens, whose memory grows with a row and not with its square.

With the queries in reverse, the bias of query i and key j of a row of L tokens is that of the offset
j - (L - 1 - i) = i + j - (L - 1). It is constant along i + j: each line of the [L, L] that attention adds to
its scores is the one above it, moved by one. So one line of all 2 L - 1 offsets holds them all, seen again
and again with a stride of one. For 2,000 tokens and 32 heads that is 0.5 MB where the square has 512 MB.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from gpu_tasks.models.layers import Packed, by_run

_ALIGNED = 8
"""CUDA's kernels want the lines of a bias to begin at multiples of this many numbers."""
WRITTEN_OUT_BYTES_MOST = 1 << 28
"""Of the squares of several heads, where a kernel wants them written out."""


@dataclass(frozen=True, slots=True, eq=False)
class BiasLines:
    """The biases of a batch: [heads, 2 longest - 1 and some], from the offset 1 - longest on.

    `is_written_out`: attention gets squares in memory of their own.
    """

    lines: Tensor
    longest: int
    is_written_out: bool

    def masks(self, length: int) -> Iterator[tuple[slice, Tensor]]:
        """What the scores of reversed queries get on top: [1, heads, L, L], for each slice of heads."""
        heads, width = self.lines.shape
        # Those behind the last key align the lines of what is written out, and are cut off again.
        columns = _aligned(length)
        squares = self.lines[:, self.longest - length :].as_strided(
            (1, heads, length, columns), (heads * width, width, 1, 1)
        )
        if not self.is_written_out:
            yield slice(heads), squares[..., :length]
            return
        at_once = max(1, WRITTEN_OUT_BYTES_MOST // (length * columns * self.lines.element_size()))
        for first in range(0, heads, at_once):
            some = slice(first, min(first + at_once, heads))
            yield some, squares[:, some].contiguous()[..., :length]


def bias_lines(by_offset: Tensor, longest: int) -> BiasLines:
    """For rows of up to `longest` tokens.

    `by_offset` is [heads, 2 farthest + 1], for keys from `farthest` before the query to as many behind it;
    what is farther away has the bias of these ends.
    """
    farthest = by_offset.shape[1] // 2
    offsets = torch.arange(longest + _aligned(longest) - 1, device=by_offset.device) - (longest - 1)
    lines = by_offset[:, offsets.clamp(-farthest, farthest) + farthest]
    return BiasLines(lines, longest, is_written_out=lines.is_cuda)


def attend_with_lines(query: Tensor, key: Tensor, value: Tensor, packed: Packed, bias: BiasLines) -> Tensor:
    """See Attention; there is no scale. Rows of equal length are neighbours and share a call."""
    attended = torch.empty(query.shape, dtype=query.dtype, device=query.device)
    for length, (q, k, v, out) in by_run(packed, query, key, value, attended):
        reverse = q.flip(2)
        for heads, mask in bias.masks(length):
            found = functional.scaled_dot_product_attention(
                reverse[:, heads], k[:, heads], v[:, heads], attn_mask=mask, scale=1.0
            )
            out[:, heads] = found.flip(2)
    return attended.flatten(1)


def _aligned(length: int) -> int:
    return -(-length // _ALIGNED) * _ALIGNED
