"""Directories of the smallest models that there can be, to be changed and read. 8 numbers wide."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertModel, BertTokenizer

WORDS = (
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "protein", "kin", "##ase", "a", "m", "k", "t",
    "##a", "##k", "##t",
)  # fmt: skip
DIM = 8
TYPES = "sentence_transformers.models."


def save_small_bert(directory: Path, **changed: Any) -> Path:
    """40 positions and 16 words. `changed` goes to the config."""
    directory.mkdir(parents=True, exist_ok=True)
    BertTokenizer(vocab={word: place for place, word in enumerate(WORDS)}).save_pretrained(directory)
    shape = {"hidden_size": DIM, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = BertConfig(**{"vocab_size": len(WORDS), "max_position_embeddings": 40, **shape, **changed})
    BertModel(config, add_pooling_layer=False).save_pretrained(directory)
    return directory


def save_sentences(
    directory: Path,
    *behind: str,
    folder: str = "",
    pooling: Mapping[str, Any] | None = None,
    limits: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Path:
    """The same with modules.json: a Transformer, a Pooling, and those that are named in `behind`.

    `pooling`, `limits` and `settings` go to the files of Pooling, of the transformer and of all.
    """
    save_small_bert(directory / folder)
    kinds = ("Transformer", "Pooling", *behind)
    paths = [folder, *(f"{place}_{kind}" for place, kind in enumerate(kinds[1:], start=1))]
    modules = [
        {"name": str(place), "path": path, "type": TYPES + kind}
        for place, (path, kind) in enumerate(zip(paths, kinds, strict=True))
    ]
    write_json(directory / "modules.json", modules)
    write_json(directory / "1_Pooling" / "config.json", {"word_embedding_dimension": DIM, **(pooling or {})})
    for path, kind in zip(paths[2:], behind, strict=True):
        if kind == "Dense":
            save_dense(directory / path)
        if kind == "LayerNorm":
            save_layer_norm(directory / path)
    write_json(directory / folder / "sentence_bert_config.json", limits or {})
    write_json(directory / "config_sentence_transformers.json", settings or {})
    return directory


def save_dense(folder: Path, inputs: int = DIM, outputs: int = 5, **changed: Any) -> None:
    config = {"in_features": inputs, "out_features": outputs, "bias": True, **changed}
    write_json(folder / "config.json", config)
    weights = {"linear.weight": torch.ones(outputs, inputs), "linear.bias": torch.zeros(outputs)}
    save_file(weights, folder / "model.safetensors")


def save_layer_norm(folder: Path, dim: int = DIM) -> None:
    write_json(folder / "config.json", {"dimension": dim})
    weights = {"norm.weight": torch.ones(dim), "norm.bias": torch.zeros(dim)}
    save_file(weights, folder / "model.safetensors")


def save_adapter(directory: Path, rank: int = 2, **changed: Any) -> Path:
    """A LoRA of one weight beside the model."""
    config = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": 4,
        "base_model_name_or_path": "org/base",
        **changed,
    }
    write_json(directory / "adapter_config.json", config)
    name = "base_model.model.encoder.layer.0.attention.self.query"
    halves = {f"{name}.lora_A.weight": torch.ones(rank, DIM), f"{name}.lora_B.weight": torch.ones(DIM, rank)}
    save_file(halves, directory / "adapter_model.safetensors")
    return directory


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
