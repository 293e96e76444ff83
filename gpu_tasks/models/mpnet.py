"""MPNet (https://arxiv.org/abs/2004.09297) on packed tokens: BERT with a bias by the distance of two tokens.

Reads the layout of transformers' MPNetModel. Positions begin behind the padding, as RoBERTa's do, and there
are no token types; all layers share one bias.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gpu_tasks.models.bert import Bert
from gpu_tasks.models.layers import Layer, attend_runs
from gpu_tasks.models.weights import Weights
from queue_app.model.spec import EncoderSpec

PREFIXES = ("", "mpnet.")
NUM_BUCKETS = 32
"""Of distances; half of them for tokens that come later. It is 32 whatever config.json says, too."""
_FARTHEST = 128
"""All that is at least so far apart shares a bucket."""


@dataclass(frozen=True, slots=True, eq=False)
class RelativeBias:
    """A learned bias. `by_offset` is [heads, 257], for keys from 128 before the query to 128 behind it."""

    by_offset: Tensor

    def __call__(self, length: int) -> Tensor:
        places = torch.arange(length, device=self.by_offset.device)
        offsets = (places - places[:, None]).clamp(-_FARTHEST, _FARTHEST) + _FARTHEST
        return self.by_offset[:, offsets]


def bucket(offset: int) -> int:
    """T5's buckets (https://arxiv.org/abs/1910.10683): one per distance up to 7, then two per doubling."""
    distance, half = abs(offset), NUM_BUCKETS // 2
    exact = half // 2
    # floor(2 * log2(distance / 8)) in integers: no rounding decides about a bucket.
    near = distance if distance < exact else exact + (distance * distance // exact**2).bit_length() - 1
    return min(near, half - 1) + (half if offset > 0 else 0)


def load_mpnet(encoder: EncoderSpec, weights: Weights) -> Bert:
    """Raises ModelLoadError for missing or misshapen weights."""
    dim = encoder.hidden_size
    return Bert(
        num_heads=encoder.num_heads,
        words=weights.tensor("embeddings.word_embeddings.weight", encoder.vocab_size, dim),
        positions=weights.positions(encoder),
        norm=weights.norm("embeddings.LayerNorm", dim, encoder.layer_norm_eps),
        layers=tuple(_layer(weights, index, encoder) for index in range(encoder.num_layers)),
        attention=attend_runs,
        bias=_bias(weights, encoder.num_heads),
    )


def _bias(weights: Weights, num_heads: int) -> RelativeBias:
    by_bucket = weights.tensor("encoder.relative_attention_bias.weight", NUM_BUCKETS, num_heads)
    buckets = [bucket(offset) for offset in range(-_FARTHEST, _FARTHEST + 1)]
    return RelativeBias(by_bucket[buckets].T.contiguous())


def _layer(weights: Weights, index: int, encoder: EncoderSpec) -> Layer:
    name = f"encoder.layer.{index}"
    dim, inner, eps = encoder.hidden_size, encoder.intermediate_size, encoder.layer_norm_eps
    qkv = (f"{name}.attention.attn.{part}" for part in "qkv")
    return Layer(
        qkv=weights.linear(*qkv, inputs=dim, outputs=dim),
        attention_out=weights.linear(f"{name}.attention.attn.o", inputs=dim, outputs=dim),
        attention_norm=weights.norm(f"{name}.attention.LayerNorm", dim, eps),
        up=weights.linear(f"{name}.intermediate.dense", inputs=dim, outputs=inner),
        down=weights.linear(f"{name}.output.dense", inputs=inner, outputs=dim),
        mlp_norm=weights.norm(f"{name}.output.LayerNorm", dim, eps),
    )
