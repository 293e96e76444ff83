"""Reads a model directory: config.json, and tensors from safetensors, in one file or many. Never pickle."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from gpu_tasks.errors import ModelLoadError, UnsupportedModel
from gpu_tasks.models.layers import Layer, LayerNorm, Linear

_ANCHOR = "embeddings.word_embeddings.weight"
_INDEX = "model.safetensors.index.json"
# Checkpoints that came from TensorFlow kept its names for the parameters of a layer norm.
_OLD_NAMES = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}


def read_json(path: Path) -> dict[str, Any]:
    """Raises ModelLoadError when the file is missing or no JSON object."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ModelLoadError(f"{path}: missing") from None
    except ValueError as error:
        raise ModelLoadError(f"{path}: not JSON: {error}") from None
    if not isinstance(content, dict):
        raise ModelLoadError(f"{path}: not a JSON object")
    return content


def require(config: Mapping[str, Any], directory: Path, **expected: object) -> None:
    """Raises UnsupportedModel where a config has another value; a missing key is as good as expected."""
    for key, value in expected.items():
        if config.get(key, value) != value:
            raise UnsupportedModel(f"{directory}: {key}={config[key]!r}; only {value!r} is implemented")


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """Tensors by name, brought to one device and dtype. `prefix` is what stands before every name."""

    directory: Path
    files: Mapping[str, Any]
    prefix: str
    device: torch.device
    dtype: torch.dtype

    def tensor(self, name: str, *shape: int, scale: float = 1.0) -> Tensor:
        """Raises ModelLoadError when there is no such tensor, or one of another shape."""
        stored = self._read(name).float()
        if stored.shape != shape:
            raise ModelLoadError(
                f"{self.directory}: {self.prefix + name} has the shape {[*stored.shape]}; "
                f"by config.json it is {[*shape]}"
            )
        return (stored * scale if scale != 1.0 else stored).to(self.device, self.dtype)

    def linear(self, *names: str, inputs: int, outputs: int, biased: bool = True) -> Linear:
        """The layers of these names as one, their outputs side by side."""
        weight = torch.cat([self.tensor(f"{name}.weight", outputs, inputs) for name in names])
        biases = [self.tensor(f"{name}.bias", outputs) for name in names] if biased else []
        return Linear(weight, torch.cat(biases) if biased else None)

    def norm(self, name: str, dim: int, eps: float) -> LayerNorm:
        return LayerNorm(self.tensor(f"{name}.weight", dim), self.tensor(f"{name}.bias", dim), eps)

    def layer(self, name: str, attention_norm: str, mlp_norm: str, config: Mapping[str, Any]) -> Layer:
        """An encoder layer under the names that BERT and its descendants share."""
        dim, inner = config["hidden_size"], config["intermediate_size"]
        eps = config.get("layer_norm_eps", 1e-12)
        qkv = (f"{name}.attention.self.{part}" for part in ("query", "key", "value"))
        return Layer(
            qkv=self.linear(*qkv, inputs=dim, outputs=dim),
            attention_out=self.linear(f"{name}.attention.output.dense", inputs=dim, outputs=dim),
            attention_norm=self.norm(f"{name}.{attention_norm}", dim, eps),
            up=self.linear(f"{name}.intermediate.dense", inputs=dim, outputs=inner),
            down=self.linear(f"{name}.output.dense", inputs=inner, outputs=dim),
            mlp_norm=self.norm(f"{name}.{mlp_norm}", dim, eps),
        )

    def _read(self, name: str) -> Tensor:
        full = self.prefix + name
        for new, old in _OLD_NAMES.items():
            if full not in self.files and full.endswith(new):
                full = full.removesuffix(new) + old
        if full not in self.files:
            raise ModelLoadError(f"{self.directory}: its weights lack {self.prefix + name}")
        tensor = self.files[full].get_tensor(full)
        assert isinstance(tensor, Tensor)
        return tensor


def open_weights(
    directory: Path, prefixes: Sequence[str], device: torch.device, dtype: torch.dtype
) -> Weights:
    """Open the safetensors of a model directory.

    Raises:
        ModelLoadError: there are none, one is damaged, or none holds the embeddings under a known prefix.
    """
    files: dict[str, Any] = {}
    for path in _weight_files(directory):
        try:
            file = safe_open(path, framework="pt")
        except (SafetensorError, OSError) as error:
            raise ModelLoadError(f"{path}: not a readable safetensors file: {error}") from None
        files |= dict.fromkeys(file.keys(), file)  # type: ignore[no-untyped-call]
    for prefix in prefixes:
        if prefix + _ANCHOR in files:
            return Weights(directory, files, prefix, device, dtype)
    raise ModelLoadError(f"{directory}: its weights lack {_ANCHOR}")


def _weight_files(directory: Path) -> list[Path]:
    if (directory / _INDEX).exists():
        names = read_json(directory / _INDEX).get("weight_map", {}).values()
        return sorted({directory / Path(name).name for name in names})
    whole = directory / "model.safetensors"
    found = [whole] if whole.exists() else sorted(directory.glob("*.safetensors"))
    if not found:
        pickled = any(path for kind in ("*.bin", "*.pt", "*.pth", "*.ckpt") for path in directory.glob(kind))
        why = "only pickled weights, which can run code; convert them to safetensors" if pickled else "none"
        raise ModelLoadError(f"{directory}: no *.safetensors here ({why})")
    return found
