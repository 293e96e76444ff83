"""Directories of sentence-transformers around the models of the zoo: modules, prompts, dimensions."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from tests.zoo.texts import bert
from tests.zoo.vocabularies import write_json

DIM = 64
Make = Callable[[Path], None]

FLAGS = {
    "cls": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
    "max": "pooling_mode_max_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
"""One flag for each mode, as all releases before the sixth wrote them."""


def sentences(
    inner: Make = bert,
    modules: Sequence[str] = ("Pooling",),
    *,
    pool: str | Sequence[str] = "mean",
    flags: bool = True,
    pooling: Mapping[str, Any] | None = None,
    dense: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    folder: str = "",
    **limits: Any,
) -> Make:
    """A model with these modules behind its transformer.

    `limits` go to sentence_bert_config.json, `settings` to config_sentence_transformers.json, `pooling` and
    `dense` to the config.json of those modules. `folder` is the transformer's; `flags` the older layout.
    """

    def make(directory: Path) -> None:
        inner(directory / folder)
        listed = [{"idx": 0, "name": "0", "path": folder, "type": _kind("Transformer")}]
        for index, name in enumerate(modules, start=1):
            path = f"{index}_{name.rpartition('.')[2]}"
            listed.append({"idx": index, "name": str(index), "path": path, "type": _kind(name)})
            (directory / path).mkdir()
            if name == "Pooling":
                write_json(directory / path / "config.json", {**_pooling(pool, flags), **(pooling or {})})
            elif name == "Dense":
                _write_dense(directory / path, **(dense or {}))
            elif name == "LayerNorm":
                _write_layer_norm(directory / path)
        write_json(directory / "modules.json", listed)
        limit = {"max_seq_length": 60, "do_lower_case": False, **limits}
        write_json(directory / folder / "sentence_bert_config.json", limit)
        write_json(
            directory / "config_sentence_transformers.json", {"__version__": _VERSIONS, **(settings or {})}
        )

    return make


_VERSIONS = {"sentence_transformers": "2.2.2", "transformers": "4.30.0", "pytorch": "2.0.0"}


def _kind(name: str) -> str:
    return name if "." in name else f"sentence_transformers.models.{name}"


def _pooling(pool: str | Sequence[str], flags: bool) -> dict[str, Any]:
    modes = [pool] if isinstance(pool, str) else [*pool]
    if flags:
        return {"word_embedding_dimension": DIM, **{flag: mode in modes for mode, flag in FLAGS.items()}}
    mode = modes[0] if len(modes) == 1 else modes
    return {"embedding_dimension": DIM, "pooling_mode": mode, "include_prompt": True}


def _write_dense(
    directory: Path,
    *,
    inputs: int = DIM,
    outputs: int = 24,
    bias: bool = True,
    activation: str = "Tanh",
    **more: Any,
) -> None:
    generator = torch.Generator().manual_seed(5)
    weights = {"linear.weight": torch.randn(outputs, inputs, generator=generator) / 8}
    if bias:
        weights["linear.bias"] = torch.randn(outputs, generator=generator) / 8
    if more.get("use_residual"):
        weights["residual.weight"] = torch.randn(outputs, inputs, generator=generator) / 8
    save_file(weights, directory / "model.safetensors")
    function = {"Tanh": "activation.Tanh", "Identity": "linear.Identity", "GELU": "activation.GELU"}[
        activation
    ]
    fields = {"in_features": inputs, "out_features": outputs, "bias": bias, **more}
    write_json(directory / "config.json", {**fields, "activation_function": f"torch.nn.modules.{function}"})


def _write_layer_norm(directory: Path) -> None:
    generator = torch.Generator().manual_seed(6)
    weights = {name: torch.randn(DIM, generator=generator) for name in ("norm.weight", "norm.bias")}
    save_file(weights, directory / "model.safetensors")
    write_json(directory / "config.json", {"dimension": DIM})
