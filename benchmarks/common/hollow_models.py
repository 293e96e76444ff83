"""ESM-2 in its published shapes whose weights are a hole in a file: all zeros, and nothing on the disk."""

import json
import struct
from collections.abc import Mapping
from math import prod
from pathlib import Path

from benchmarks.common.esm2_shapes import SHAPES, Shape
from tests.zoo.vocabularies import ESM2_VOCABULARY

BYTES = {"BF16": 2, "F32": 4, "F16": 2}


def hollow_esm2(home: Path, shape: str, *, num_layers: int | None = None, stored: str = "BF16") -> Path:
    """A model directory; with fewer layers than published where so many are asked for."""
    of = SHAPES[shape]
    layers = num_layers or of.num_layers
    directory = home / f"esm2_{shape}_{layers}"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(_config(of, layers)))
    (directory / "vocab.txt").write_text("\n".join(ESM2_VOCABULARY))
    write_hollow(directory / "model.safetensors", _tensors(of, layers), stored)
    return directory


def write_hollow(path: Path, shapes: Mapping[str, tuple[int, ...]], stored: str) -> None:
    """A safetensors file of zeros. https://github.com/huggingface/safetensors#format"""
    begin, head = 0, {"__metadata__": {"format": "pt"}}
    for name, shape in shapes.items():
        end = begin + prod(shape) * BYTES[stored]
        head[name] = {"dtype": stored, "shape": [*shape], "data_offsets": [begin, end]}  # type: ignore[dict-item]
        begin = end
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + begin)


def _config(of: Shape, num_layers: int) -> dict[str, object]:
    return {
        "model_type": "esm", "vocab_size": 33, "pad_token_id": 1, "mask_token_id": 32,
        "hidden_size": of.dim, "num_hidden_layers": num_layers, "num_attention_heads": of.num_heads,
        "intermediate_size": of.inner, "max_position_embeddings": 1026,
        "position_embedding_type": "rotary", "emb_layer_norm_before": False, "token_dropout": True,
        "layer_norm_eps": 1e-5,
    }  # fmt: skip


def _tensors(of: Shape, num_layers: int) -> dict[str, tuple[int, ...]]:
    """In the order in which they lie in the file."""
    linear = {
        "attention.self.query": (of.dim, of.dim),
        "attention.self.key": (of.dim, of.dim),
        "attention.self.value": (of.dim, of.dim),
        "attention.output.dense": (of.dim, of.dim),
        "intermediate.dense": (of.inner, of.dim),
        "output.dense": (of.dim, of.inner),
    }
    found: dict[str, tuple[int, ...]] = {"esm.embeddings.word_embeddings.weight": (33, of.dim)}
    for number in range(num_layers):
        layer = f"esm.encoder.layer.{number}"
        for name, shape in linear.items():
            found |= {f"{layer}.{name}.weight": shape, f"{layer}.{name}.bias": shape[:1]}
        for name in ("attention.LayerNorm", "LayerNorm"):
            found |= {f"{layer}.{name}.{kind}": (of.dim,) for kind in ("weight", "bias")}
    return found | {f"esm.encoder.emb_layer_norm_after.{kind}": (of.dim,) for kind in ("weight", "bias")}
