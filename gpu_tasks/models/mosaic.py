"""MosaicBERT, which DNABERT-2 and DNABERT-S are, on packed tokens (https://arxiv.org/abs/2312.17482).

BERT with ALiBi in place of positions (https://arxiv.org/abs/2108.12409) and a gated feed-forward. The
published directories say `model_type: bert` and bring code of their own, bert_layers.py, which is never run.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gpu_tasks.models.bert import Bert
from gpu_tasks.models.layers import Layer, attend_runs, gated_feed_forward
from gpu_tasks.models.weights import Weights
from queue_app.model.spec import EncoderSpec

PREFIXES = ("", "bert.")


@dataclass(frozen=True, slots=True, eq=False)
class Alibi:
    """A bias that falls with the distance of two tokens, on both sides. `slopes` is float32[heads]."""

    slopes: Tensor
    dtype: torch.dtype

    def __call__(self, length: int) -> Tensor:
        places = torch.arange(length, device=self.slopes.device)
        distances = (places - places[:, None]).abs()
        return (-self.slopes[:, None, None] * distances).to(self.dtype)


def alibi_slopes(num_heads: int) -> list[float]:
    """A geometric sequence; beyond a power of two, every other slope of the next power's follows.

    https://github.com/ofirpress/attention_with_linear_biases/issues/5 keeps it for bidirectional attention.
    """
    power = 1 << int(math.log2(num_heads))
    slopes = [2 ** (-8 * head / power) for head in range(1, power + 1)]
    between = [2 ** (-4 * head / power) for head in range(1, 2 * power + 1, 2)]
    return slopes + between[: num_heads - power]


def load_mosaic(encoder: EncoderSpec, weights: Weights) -> Bert:
    """Raises ModelLoadError for missing or misshapen weights."""
    dim = encoder.hidden_size
    words = weights.tensor("embeddings.word_embeddings.weight", encoder.vocab_size, dim)
    types = weights.tensor("embeddings.token_type_embeddings.weight", encoder.num_token_types, dim)
    return Bert(
        num_heads=encoder.num_heads,
        words=words + types[encoder.token_type],
        positions=None,
        norm=weights.norm("embeddings.LayerNorm", dim, encoder.layer_norm_eps),
        layers=tuple(_layer(weights, index, encoder) for index in range(encoder.num_layers)),
        attention=attend_runs,
        bias=Alibi(torch.tensor(alibi_slopes(encoder.num_heads), device=weights.device), weights.dtype),
        mlp=gated_feed_forward,
    )


def _layer(weights: Weights, index: int, encoder: EncoderSpec) -> Layer:
    name = f"encoder.layer.{index}"
    dim, inner, eps = encoder.hidden_size, encoder.intermediate_size, encoder.layer_norm_eps
    return Layer(
        qkv=weights.linear(f"{name}.attention.self.Wqkv", inputs=dim, outputs=3 * dim),
        attention_out=weights.linear(f"{name}.attention.output.dense", inputs=dim, outputs=dim),
        attention_norm=weights.norm(f"{name}.attention.output.LayerNorm", dim, eps),
        up=weights.linear(f"{name}.mlp.gated_layers", inputs=dim, outputs=2 * inner, biased=False),
        down=weights.linear(f"{name}.mlp.wo", inputs=inner, outputs=dim),
        mlp_norm=weights.norm(f"{name}.mlp.layernorm", dim, eps),
    )
