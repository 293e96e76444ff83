"""The weights of a native family: tensors by name, brought to one device and dtype."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpu_tasks.errors import ModelLoadError, UnsupportedModel
from gpu_tasks.models.layers import Layer, LayerNorm, Linear
from gpu_tasks.models.tensors import Tensors
from queue_app.model.spec import EncoderSpec

_ANCHOR = "embeddings.word_embeddings.weight"
# Checkpoints that came from TensorFlow kept its names for the parameters of a layer norm.
_OLD_NAMES = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """Each tensor can be taken once: what was converted does not stay beside its origin.

    `model` names the model in errors, `prefix` is what stands before every name.
    """

    model: str
    tensors: Tensors
    prefix: str
    device: torch.device
    dtype: torch.dtype

    def tensor(self, name: str, *shape: int, scale: float = 1.0) -> Tensor:
        """Raises ModelLoadError when there is no such tensor, or one of another shape."""
        stored = self._take(name)
        if stored.shape != shape:
            raise ModelLoadError(
                f"{self.model}: {self.prefix + name} has the shape {[*stored.shape]}; "
                f"by config.json it is {[*shape]}"
            )
        if not stored.is_floating_point():
            raise UnsupportedModel(f"{self.model}: {self.prefix + name} is stored as {stored.dtype}")
        stored = stored.float()
        return (stored * scale if scale != 1.0 else stored).to(self.device, self.dtype)

    def ending_with(self, end: str) -> list[Tensor]:
        """All tensors whose names end so, by name, as they are stored."""
        return [self.tensors[name] for name in sorted(self.tensors) if name.endswith(end)]

    def linear(self, *names: str, inputs: int, outputs: int, biased: bool = True) -> Linear:
        """The layers of these names as one, their outputs side by side."""
        weights = [self.tensor(f"{name}.weight", outputs, inputs) for name in names]
        biases = [self.tensor(f"{name}.bias", outputs) for name in names] if biased else []
        return Linear(_joined(weights), _joined(biases) if biased else None)

    def norm(self, name: str, dim: int, eps: float) -> LayerNorm:
        return LayerNorm(self.tensor(f"{name}.weight", dim), self.tensor(f"{name}.bias", dim), eps)

    def positions(self, encoder: EncoderSpec) -> Tensor:
        """The rows of the position table from a segment's first token on.

        Where the first rows are kept for the padding, the last of them, which a padding token in a text
        takes, comes behind all others.
        """
        shape, first = (encoder.num_positions, encoder.hidden_size), encoder.first_position
        table = self.tensor("embeddings.position_embeddings.weight", *shape)
        return torch.cat([table[first:], table[first - 1 : first]]) if first else table

    def layer(self, name: str, attention_norm: str, mlp_norm: str, encoder: EncoderSpec) -> Layer:
        """An encoder layer under the names that BERT and its descendants share."""
        dim, inner, eps = encoder.hidden_size, encoder.intermediate_size, encoder.layer_norm_eps
        qkv = (f"{name}.attention.self.{part}" for part in ("query", "key", "value"))
        return Layer(
            qkv=self.linear(*qkv, inputs=dim, outputs=dim),
            attention_out=self.linear(f"{name}.attention.output.dense", inputs=dim, outputs=dim),
            attention_norm=self.norm(f"{name}.{attention_norm}", dim, eps),
            up=self.linear(f"{name}.intermediate.dense", inputs=dim, outputs=inner),
            down=self.linear(f"{name}.output.dense", inputs=inner, outputs=dim),
            mlp_norm=self.norm(f"{name}.{mlp_norm}", dim, eps),
        )

    def _take(self, name: str) -> Tensor:
        full = self.prefix + name
        for new, old in _OLD_NAMES.items():
            if full not in self.tensors and full.endswith(new):
                full = full.removesuffix(new) + old
        if full not in self.tensors:
            raise ModelLoadError(f"{self.model}: its weights lack {self.prefix + name}")
        return self.tensors.pop(full)


def find_prefix(model: str, tensors: Tensors, prefixes: Sequence[str]) -> str:
    """What stands before the names. Raises ModelLoadError when no prefix leads to the embeddings."""
    for prefix in prefixes:
        if prefix + _ANCHOR in tensors:
            return prefix
    raise ModelLoadError(f"{model}: its weights lack {_ANCHOR}")


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([*parts]) if len(parts) > 1 else parts[0]
