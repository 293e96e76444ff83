"""MosaicBERT by its published formulas: transformers has no such model, and its own code is not run.

https://huggingface.co/zhihan1996/DNABERT-2-117M/blob/main/bert_layers.py, of 4 or 12 heads.
"""

import json
import math
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, linear
from transformers import AutoTokenizer

_SLOPES = {4: [2**-2, 2**-4, 2**-6, 2**-8]}
_SLOPES[12] = [*(2**-head for head in range(1, 9)), *(2**-half for half in (0.5, 1.5, 2.5, 3.5))]
"""https://github.com/ofirpress/attention_with_linear_biases/issues/5"""


def mosaic_states(directory: Path, sequence: str) -> Tensor:
    """float32[tokens, dim], [CLS] and [SEP] included."""
    config = json.loads((directory / "config.json").read_bytes())
    loaded = load_file(directory / "model.safetensors")
    weights = {name.removeprefix("bert."): tensor.double() for name, tensor in loaded.items()}
    ids = AutoTokenizer.from_pretrained(directory, local_files_only=True)(sequence)["input_ids"]
    embedded = weights["embeddings.word_embeddings.weight"][ids]
    states = _norm(
        embedded + weights["embeddings.token_type_embeddings.weight"][0], weights, "embeddings.LayerNorm"
    )
    for index in range(config["num_hidden_layers"]):
        states = _layer(states, weights, f"encoder.layer.{index}", config["num_attention_heads"])
    return states.float()


def _layer(states: Tensor, weights: dict[str, Tensor], name: str, num_heads: int) -> Tensor:
    attended = _attend(_linear(states, weights, f"{name}.attention.self.Wqkv"), num_heads)
    states = states + _linear(attended, weights, f"{name}.attention.output.dense")
    states = _norm(states, weights, f"{name}.attention.output.LayerNorm")
    gate, inner = linear(states, weights[f"{name}.mlp.gated_layers.weight"]).chunk(2, dim=1)
    return _norm(
        states + _linear(gelu(gate) * inner, weights, f"{name}.mlp.wo"), weights, f"{name}.mlp.layernorm"
    )


def _attend(qkv: Tensor, num_heads: int) -> Tensor:
    query, key, value = (part.unflatten(1, (num_heads, -1)).transpose(0, 1) for part in qkv.chunk(3, dim=1))
    places = torch.arange(len(qkv))
    distances = (places - places[:, None]).abs()
    scores = query @ key.mT / math.sqrt(query.shape[-1])
    scores = scores - torch.tensor(_SLOPES[num_heads], dtype=scores.dtype)[:, None, None] * distances
    attended: Tensor = scores.softmax(dim=-1) @ value
    return attended.transpose(0, 1).flatten(1)


def _linear(states: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    return linear(states, weights[f"{name}.weight"], weights[f"{name}.bias"])


def _norm(states: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    return layer_norm(states, states.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-12)
