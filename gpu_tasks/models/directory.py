"""Load a model directory: find the family in config.json, put the pieces together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from gpu_tasks.errors import ModelLoadError, UnsupportedModel
from gpu_tasks.models import Dtype
from gpu_tasks.models.auto import load_auto, num_positions
from gpu_tasks.models.auto_texts import load_auto_texts
from gpu_tasks.models.bert import ROBERTA, first_position, load_bert
from gpu_tasks.models.esm2 import load_esm2
from gpu_tasks.models.mosaic import is_mosaic, load_mosaic
from gpu_tasks.models.mpnet import FIRST_POSITION, load_mpnet
from gpu_tasks.models.packed import Encoder, PackedModel, Tokenizer
from gpu_tasks.models.residues import load_residues
from gpu_tasks.models.sentence import SentenceModules, read_modules, stated_limit
from gpu_tasks.models.texts import load_texts
from gpu_tasks.models.weights import read_json
from gpu_tasks.readout import Pool, Readout, check_layers
from gpu_tasks.torch_device import TorchDevice, open_device

# The published ESM-2 configs count two positions that fairseq keeps for padding.
_ESM2_PADDING_POSITIONS = 2
# Of a model without a limit of its own.
_DEFAULT_LIMIT = 512


@dataclass(frozen=True, slots=True)
class _Source:
    """What a model is loaded from, and to where. `inner` is the folder of the transformer itself."""

    directory: Path
    inner: Path
    config: dict[str, Any]
    modules: SentenceModules | None
    on: TorchDevice
    dtype: torch.dtype

    @property
    def lower_case(self) -> bool:
        return self.modules is not None and self.modules.lower_case


def load_directory(
    directory: Path,
    *,
    device: str,
    dtype: Dtype,
    pools: tuple[Pool, ...] | None = None,
    layers: Sequence[int] = (-1,),
    threads: int | None,
) -> PackedModel:
    """See gpu_tasks.models.load_model."""
    on = open_device(device, threads)
    modules = read_modules(directory)
    inner = modules.transformer if modules else directory
    config = read_json(inner / "config.json")
    load = _family(directory, config)
    try:
        model = load(_Source(directory, inner, config, modules, on, getattr(torch, dtype)))
    except KeyError as error:
        raise ModelLoadError(f"{inner}/config.json: lacks {error}") from None
    on.settle()
    own = model.readout.pools
    found = check_layers(layers, model.encoder.num_layers)
    return replace(model, readout=Readout(found, own if pools is None else pools))


def _load_esm2(source: _Source) -> PackedModel:
    tokenizer, config = load_residues(source.directory), source.config
    num_special = len(tokenizer.prefix) + len(tokenizer.suffix)
    return PackedModel(
        name=source.directory.name,
        hidden_size=config["hidden_size"],
        max_length=config["max_position_embeddings"] - _ESM2_PADDING_POSITIONS - num_special,
        readout=Readout(),
        normalize=False,
        pool_special=False,
        max_positions=None,
        tokenizer=tokenizer,
        encoder=load_esm2(source.directory, config, source.on.device, source.dtype),
        on=source.on,
    )


def _load_bert(source: _Source) -> PackedModel:
    positions = source.config["max_position_embeddings"] - first_position(source.config)
    return _load_texts(source, load_bert, positions)


def _load_mpnet(source: _Source) -> PackedModel:
    return _load_texts(source, load_mpnet, source.config["max_position_embeddings"] - FIRST_POSITION)


def _load_mosaic(source: _Source) -> PackedModel:
    # The published way pools the special tokens with the rest:
    # https://github.com/MAGICS-LAB/DNABERT_S/blob/main/evaluate/utils.py
    model = _load_texts(source, load_mosaic, source.config.get("alibi_starting_size", _DEFAULT_LIMIT))
    return replace(model, pool_special=True, max_positions=None)


def _load_texts(
    source: _Source,
    load: Callable[[Path, dict[str, Any], torch.device, torch.dtype], Encoder],
    positions: int,
) -> PackedModel:
    tokenizer = load_texts(source.inner, lower_case=source.lower_case)
    encoder = load(source.inner, source.config, source.on.device, source.dtype)
    limit = source.modules.max_seq_length if source.modules else None
    return _of_texts(source, tokenizer, encoder, source.config["hidden_size"], positions, limit)


def _load_auto(source: _Source) -> PackedModel:
    tokenizer = load_auto_texts(source.inner, lower_case=source.lower_case)
    encoder = load_auto(source.inner, source.config, source.on.device, source.dtype)
    positions, limit = num_positions(source.config), stated_limit(source.inner)
    return _of_texts(source, tokenizer, encoder, encoder.dim, positions, limit)


def _of_texts(
    source: _Source,
    tokenizer: Tokenizer,
    encoder: Encoder,
    dim: int,
    positions: int | None,
    limit: int | None,
) -> PackedModel:
    modules = source.modules
    longest = min((most for most in (positions, limit) if most), default=_DEFAULT_LIMIT)
    return PackedModel(
        name=source.directory.name,
        hidden_size=dim,
        max_length=longest - len(tokenizer.prefix) - len(tokenizer.suffix),
        readout=Readout(pools=(modules.pool,)) if modules else Readout(),
        normalize=modules is not None and modules.normalize,
        pool_special=modules is not None,
        max_positions=positions,
        tokenizer=tokenizer,
        encoder=encoder,
        on=source.on,
    )


def _family(directory: Path, config: dict[str, Any]) -> Callable[[_Source], PackedModel]:
    family = config.get("model_type")
    if not isinstance(family, str):
        raise UnsupportedModel(f"{directory}: its config.json names no model_type")
    if family == "bert" and is_mosaic(config):
        return _load_mosaic
    return _NATIVE.get(family, _load_auto)


_NATIVE: dict[str, Callable[[_Source], PackedModel]] = {
    "esm": _load_esm2,
    "mpnet": _load_mpnet,
    **dict.fromkeys(("bert", *ROBERTA), _load_bert),
}
