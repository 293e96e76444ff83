"""MosaicBERT, which DNABERT-2 and DNABERT-S are, on packed tokens (https://arxiv.org/abs/2312.17482).

BERT with ALiBi in place of positions (https://arxiv.org/abs/2108.12409) and a gated feed-forward. The
published directories say `model_type: bert` and bring code of their own, bert_layers.py, which is never run.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gpu_tasks.models.bert import Bert, token_type
from gpu_tasks.models.kernels.choose import choose_kernels
from gpu_tasks.models.layers import gated_feed_forward
from gpu_tasks.models.weights import Weights


@dataclass(frozen=True, slots=True, eq=False)
class Alibi:
    """A bias that falls with the distance of two tokens, on both sides. `slopes` is float32[heads]."""

    slopes: Tensor
    dtype: torch.dtype

    def __call__(self, length: int) -> Tensor:
        places = torch.arange(length, device=self.slopes.device)
        return self._fallen(places - places[:, None])

    def for_offsets(self, length: int) -> Tensor:
        """See Bias. No key of a row is farther away than its reach."""
        return self._fallen(torch.arange(1 - length, length, device=self.slopes.device)[None]).flatten(1)

    def _fallen(self, offsets: Tensor) -> Tensor:
        return (-self.slopes[:, None, None] * offsets.abs()).to(self.dtype)


def alibi_slopes(num_heads: int) -> list[float]:
    """A geometric sequence; beyond a power of two, every other slope of the next power's follows.

    https://github.com/ofirpress/attention_with_linear_biases/issues/5 keeps it for bidirectional attention.
    """
    power = 1 << int(math.log2(num_heads))
    slopes = [2 ** (-8 * head / power) for head in range(1, power + 1)]
    between = [2 ** (-4 * head / power) for head in range(1, 2 * power + 1, 2)]
    return slopes + between[: num_heads - power]


def load_mosaic(weights: Weights) -> Bert:
    """Raises ModelLoadError for missing or misshapen weights."""
    num_heads = weights.encoder.num_heads
    return Bert(
        num_heads=num_heads,
        words=weights.words() + token_type(weights),
        positions=None,
        norm=weights.norm("embeddings.LayerNorm"),
        layers=weights.layers(),
        kernels=choose_kernels(weights, biased=True),
        bias=Alibi(torch.tensor(alibi_slopes(num_heads), device=weights.device), weights.dtype),
        mlp=gated_feed_forward,
    )
