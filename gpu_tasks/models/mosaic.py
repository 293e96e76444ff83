"""MosaicBERT, which DNABERT-2 and DNABERT-S are, on packed tokens (https://arxiv.org/abs/2312.17482).

BERT with ALiBi in place of positions (https://arxiv.org/abs/2108.12409) and a gated feed-forward. The
published directories say `model_type: bert` and bring code of their own, bert_layers.py, which is never run.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpu_tasks.models.bert import Bert
from gpu_tasks.models.layers import Layer, attend_runs, gated_feed_forward
from gpu_tasks.models.weights import Weights, open_weights, require


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


def is_mosaic(config: Mapping[str, Any]) -> bool:
    """True for a config.json that says `bert` and means MosaicBERT."""
    own = config.get("auto_map")
    names = own.values() if isinstance(own, dict) else ()
    return "alibi_starting_size" in config or any(
        str(name).rpartition("--")[2].startswith("bert_layers.") for name in names
    )


def load_mosaic(directory: Path, config: dict[str, Any], device: torch.device, dtype: torch.dtype) -> Bert:
    """Raises ModelLoadError for missing or misshapen weights, UnsupportedModel for variants."""
    require(config, directory, hidden_act="gelu", is_decoder=False)
    weights = open_weights(directory, ("", "bert."), device, dtype)
    dim, num_heads = config["hidden_size"], config["num_attention_heads"]
    words = weights.tensor("embeddings.word_embeddings.weight", config["vocab_size"], dim)
    types = weights.tensor("embeddings.token_type_embeddings.weight", config.get("type_vocab_size", 2), dim)
    return Bert(
        num_heads=num_heads,
        words=words + types[0],
        positions=None,
        norm=weights.norm("embeddings.LayerNorm", dim, config.get("layer_norm_eps", 1e-12)),
        layers=tuple(_layer(weights, index, config) for index in range(config["num_hidden_layers"])),
        attention=attend_runs,
        bias=Alibi(torch.tensor(alibi_slopes(num_heads), device=device), dtype),
        mlp=gated_feed_forward,
    )


def _layer(weights: Weights, index: int, config: Mapping[str, Any]) -> Layer:
    name = f"encoder.layer.{index}"
    dim, inner, eps = config["hidden_size"], config["intermediate_size"], config.get("layer_norm_eps", 1e-12)
    return Layer(
        qkv=weights.linear(f"{name}.attention.self.Wqkv", inputs=dim, outputs=3 * dim),
        attention_out=weights.linear(f"{name}.attention.output.dense", inputs=dim, outputs=dim),
        attention_norm=weights.norm(f"{name}.attention.output.LayerNorm", dim, eps),
        up=weights.linear(f"{name}.mlp.gated_layers", inputs=dim, outputs=2 * inner, biased=False),
        down=weights.linear(f"{name}.mlp.wo", inputs=inner, outputs=dim),
        mlp_norm=weights.norm(f"{name}.mlp.layernorm", dim, eps),
    )
