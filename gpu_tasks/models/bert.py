"""BERT and its like (MiniLM, BGE, E5, GTE) on packed tokens (https://arxiv.org/abs/1810.04805).

Post-norm layers, absolute positions, exact GELU. RoBERTa (https://arxiv.org/abs/1907.11692), XLM-RoBERTa and
CamemBERT differ in where their positions begin.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from gpu_tasks.models.layers import Attention, Layer, LayerNorm, choose_attention, feed_forward
from gpu_tasks.models.packed import Packed
from gpu_tasks.models.weights import open_weights, require

ROBERTA = ("roberta", "xlm-roberta", "camembert")


@dataclass(frozen=True, slots=True, eq=False)
class Bert:
    """The encoder. `positions` [max_positions, dim] holds the embedding of token type 0 as well."""

    num_heads: int
    words: Tensor
    positions: Tensor
    norm: LayerNorm
    layers: tuple[Layer, ...]
    attention: Attention

    def __call__(self, packed: Packed) -> Tensor:
        """Hidden states [T, dim] of the last layer."""
        words = functional.embedding(packed.input_ids, self.words)
        x = self.norm(words + functional.embedding(packed.positions, self.positions))
        for layer in self.layers:
            x = layer.attention_norm(x + self._attend(layer, x, packed))
            x = layer.mlp_norm(x + feed_forward(layer, x))
        return x

    def _attend(self, layer: Layer, x: Tensor, packed: Packed) -> Tensor:
        query, key, value = layer.qkv(x).view(len(x), 3, self.num_heads, -1).unbind(1)
        return layer.attention_out(self.attention(query, key, value, packed))


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
