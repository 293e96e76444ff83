"""BERT and its like (MiniLM, BGE, E5, GTE) on packed tokens (https://arxiv.org/abs/1810.04805).

Post-norm layers, absolute positions, exact GELU. RoBERTa (https://arxiv.org/abs/1907.11692), XLM-RoBERTa and
CamemBERT differ in where their positions begin. `bias` and `mlp` are for the descendants that are not.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from gpu_tasks.models.layers import (
    Attention,
    Bias,
    Layer,
    LayerNorm,
    attend_runs,
    choose_attention,
    feed_forward,
)
from gpu_tasks.models.packed import Packed, tap
from gpu_tasks.models.weights import open_weights, require

ROBERTA = ("roberta", "xlm-roberta", "camembert")
# CUDA's kernels copy a bias whose rows begin elsewhere.
_ALIGNED = 8


@dataclass(frozen=True, slots=True, eq=False)
class Bert:
    """The encoder. `positions` [max_positions, dim] holds the embedding of token type 0 as well.

    Where there are no positions, `words` [vocabulary, dim] holds it. A `bias` takes the place of `attention`.
    """

    num_heads: int
    words: Tensor
    positions: Tensor | None
    norm: LayerNorm
    layers: tuple[Layer, ...]
    attention: Attention
    bias: Bias | None = None
    mlp: Callable[[Layer, Tensor], Tensor] = feed_forward

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    def __call__(self, packed: Packed, layers: tuple[int, ...]) -> list[Tensor]:
        """See Encoder."""
        return tap(self._states(packed, max(layers)), layers)

    def _states(self, packed: Packed, last: int) -> Iterator[Tensor]:
        x = functional.embedding(packed.input_ids, self.words)
        if self.positions is not None:
            x = x + functional.embedding(packed.positions, self.positions)
        x, attention = self.norm(x), self._attention(packed)
        for layer in self.layers[:last]:
            yield x
            x = layer.attention_norm(x + self._attend(layer, x, packed, attention))
            x = layer.mlp_norm(x + self.mlp(layer, x))
        yield x

    def _attention(self, packed: Packed) -> Attention:
        """The bias is made once for a batch: all layers and all lengths share it."""
        if self.bias is None:
            return self.attention
        return partial(attend_runs, bias=self.bias(-(-packed.max_seqlen // _ALIGNED) * _ALIGNED))

    def _attend(self, layer: Layer, x: Tensor, packed: Packed, attention: Attention) -> Tensor:
        query, key, value = layer.qkv(x).view(len(x), 3, self.num_heads, -1).unbind(1)
        return layer.attention_out(attention(query, key, value, packed))


def first_position(config: dict[str, Any]) -> int:
    """The row of the position table that a text's first token takes: RoBERTa's begin behind the padding."""
    return int(config["pad_token_id"]) + 1 if config["model_type"] in ROBERTA else 0


def load_bert(directory: Path, config: dict[str, Any], device: torch.device, dtype: torch.dtype) -> Bert:
    """Raises ModelLoadError for missing or misshapen weights, UnsupportedModel for variants."""
    require(config, directory, position_embedding_type="absolute", hidden_act="gelu", is_decoder=False)
    weights = open_weights(directory, ("", "bert.", "roberta."), device, dtype)
    dim, num_heads = config["hidden_size"], config["num_attention_heads"]
    num_positions, num_types = config["max_position_embeddings"], config.get("type_vocab_size", 2)
    positions = weights.tensor("embeddings.position_embeddings.weight", num_positions, dim)
    types = weights.tensor("embeddings.token_type_embeddings.weight", num_types, dim)
    return Bert(
        num_heads=num_heads,
        words=weights.tensor("embeddings.word_embeddings.weight", config["vocab_size"], dim),
        positions=positions[first_position(config) :] + types[0],
        norm=weights.norm("embeddings.LayerNorm", dim, config.get("layer_norm_eps", 1e-12)),
        layers=tuple(
            weights.layer(f"encoder.layer.{index}", "attention.output.LayerNorm", "output.LayerNorm", config)
            for index in range(config["num_hidden_layers"])
        ),
        attention=choose_attention(device, dtype, dim // num_heads),
    )
