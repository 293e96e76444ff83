"""Load a model directory: find the family in config.json, put the pieces together."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from gpu_tasks.errors import ModelLoadError, UnsupportedModel
from gpu_tasks.models import Dtype, Pool
from gpu_tasks.models.bert import ROBERTA, first_position, load_bert
from gpu_tasks.models.esm2 import load_esm2
from gpu_tasks.models.packed import PackedModel
from gpu_tasks.models.residues import load_residues
from gpu_tasks.models.sentence import read_modules
from gpu_tasks.models.texts import load_texts
from gpu_tasks.models.weights import read_json
from gpu_tasks.torch_device import TorchDevice, open_device

# The published ESM-2 configs count two positions that fairseq keeps for padding.
_ESM2_PADDING_POSITIONS = 2


def load_directory(
    directory: Path, *, device: str, dtype: Dtype, pool: Pool | None, threads: int | None
) -> PackedModel:
    """See gpu_tasks.models.load_model."""
    on = open_device(device, threads)
    modules = read_modules(directory)
    config = read_json((modules.transformer if modules else directory) / "config.json")
    family = config.get("model_type")
    if family not in _FAMILIES:
        raise UnsupportedModel(f"{directory}: model_type {family!r}; implemented: {', '.join(_FAMILIES)}")
    try:
        model = _FAMILIES[family](directory, config, on, getattr(torch, dtype))
    except KeyError as error:
        raise ModelLoadError(f"{directory}/config.json: lacks {error}") from None
    on.settle()
    return replace(model, pool=pool) if pool else model


def _load_esm2(directory: Path, config: dict[str, Any], on: TorchDevice, dtype: torch.dtype) -> PackedModel:
    tokenizer = load_residues(directory)
    num_special = len(tokenizer.prefix) + len(tokenizer.suffix)
    return PackedModel(
        name=directory.name,
        dim=config["hidden_size"],
        max_length=config["max_position_embeddings"] - _ESM2_PADDING_POSITIONS - num_special,
        pool="mean",
        normalize=False,
        pool_special=False,
        max_positions=None,
        tokenizer=tokenizer,
        encoder=load_esm2(directory, config, on.device, dtype),
        on=on,
    )


def _load_bert(directory: Path, config: dict[str, Any], on: TorchDevice, dtype: torch.dtype) -> PackedModel:
    modules = read_modules(directory)
    inner = modules.transformer if modules else directory
    tokenizer = load_texts(inner, lower_case=modules is not None and modules.lower_case)
    positions = config["max_position_embeddings"] - first_position(config)
    longest = min(positions, (modules.max_seq_length if modules else None) or positions)
    return PackedModel(
        name=directory.name,
        dim=config["hidden_size"],
        max_length=longest - len(tokenizer.prefix) - len(tokenizer.suffix),
        pool=modules.pool if modules else "mean",
        normalize=modules is not None and modules.normalize,
        pool_special=modules is not None,
        max_positions=positions,
        tokenizer=tokenizer,
        encoder=load_bert(inner, config, on.device, dtype),
        on=on,
    )


_FAMILIES: dict[str, Callable[[Path, dict[str, Any], TorchDevice, torch.dtype], PackedModel]] = {
    "esm": _load_esm2,
    **dict.fromkeys(("bert", *ROBERTA), _load_bert),
}
