"""ESM-2 on packed tokens (Lin et al. 2023, https://doi.org/10.1126/science.ade2574).

Reads the layout of transformers' EsmModel and EsmForMaskedLM. Pre-norm layers, rotary positions, exact
GELU, a final layer norm.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from gpu_tasks.models.layers import Attention, Layer, LayerNorm, choose_attention, feed_forward
from gpu_tasks.models.packed import Packed, tap
from gpu_tasks.models.weights import Weights, open_weights, require

_ROPE_THETA = 1e4
# Token dropout: ESM-2 trained with 15 % of the tokens selected and 80 % of those masked, and scales
# embeddings by what was left. Without <mask> in the input that is this constant:
# https://github.com/facebookresearch/esm/blob/main/esm/model/esm2.py
_KEPT_IN_TRAINING = 1 - 0.15 * 0.8


@dataclass(frozen=True, slots=True, eq=False)
class Esm2:
    """The encoder. `embedding` is [vocabulary, dim], already scaled; `inv_freq` float32[head_dim / 2]."""

    num_heads: int
    embedding: Tensor
    inv_freq: Tensor
    layers: tuple[Layer, ...]
    norm: LayerNorm
    attention: Attention

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    def __call__(self, packed: Packed, layers: tuple[int, ...]) -> list[Tensor]:
        """See Encoder."""
        return tap(self._states(packed, max(layers)), layers)

    def _states(self, packed: Packed, last: int) -> Iterator[Tensor]:
        # The final layer norm belongs to the last layer, as in fair-esm and transformers.
        x = functional.embedding(packed.input_ids, self.embedding)
        cos, sin = self._angles(packed.positions, x.dtype)
        for layer in self.layers[:last]:
            yield x
            x = x + self._attend(layer, layer.attention_norm(x), cos, sin, packed)
            x = x + feed_forward(layer, layer.mlp_norm(x))
        yield self.norm(x) if last == len(self.layers) else x

    def _attend(self, layer: Layer, x: Tensor, cos: Tensor, sin: Tensor, packed: Packed) -> Tensor:
        qkv = layer.qkv(x).view(len(x), 3, self.num_heads, -1)
        query, key = rotate(qkv[:, :2], cos, sin).unbind(1)
        return layer.attention_out(self.attention(query, key, qkv[:, 2], packed))

    def _angles(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        angles = (positions[:, None].float() * self.inv_freq)[:, None, None, :]
        return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions (https://arxiv.org/abs/2104.09864) on [T, 2, heads, head_dim], halves paired."""
    rotated = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    first, second = x.chunk(2, dim=-1)
    left, right = rotated.chunk(2, dim=-1)
    torch.mul(first, cos, out=left).addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=right).addcmul_(first, sin)
    return rotated


def load_esm2(directory: Path, config: dict[str, Any], device: torch.device, dtype: torch.dtype) -> Esm2:
    """Raises ModelLoadError for missing or misshapen weights, UnsupportedModel for ESM-1 and variants."""
    require(config, directory, position_embedding_type="rotary", emb_layer_norm_before=False)
    require(config, directory, hidden_act="gelu", is_folding_model=False, rope_theta=_ROPE_THETA)
    weights = open_weights(directory, ("", "esm."), device, dtype)
    dim, num_heads = config["hidden_size"], config["num_attention_heads"]
    head_dim = dim // num_heads
    return Esm2(
        num_heads=num_heads,
        embedding=_embedding(weights, config),
        inv_freq=(_ROPE_THETA ** (-torch.arange(0, head_dim, 2) / head_dim)).to(device),
        layers=tuple(_layer(weights, index, config) for index in range(config["num_hidden_layers"])),
        norm=weights.norm("encoder.emb_layer_norm_after", dim, config.get("layer_norm_eps", 1e-12)),
        attention=choose_attention(device, dtype, head_dim),
    )


def _embedding(weights: Weights, config: dict[str, Any]) -> Tensor:
    scale = _KEPT_IN_TRAINING if config.get("token_dropout", True) else 1.0
    shape = config["vocab_size"], config["hidden_size"]
    return weights.tensor("embeddings.word_embeddings.weight", *shape, scale=scale)


def _layer(weights: Weights, index: int, config: dict[str, Any]) -> Layer:
    return weights.layer(f"encoder.layer.{index}", "attention.LayerNorm", "LayerNorm", config)
