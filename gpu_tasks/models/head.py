"""What stands behind the pooling of a sentence-transformers model: Dense, LayerNorm, Normalize, truncation.

Computed in float32, whatever the dtype of the encoder. A record's vector passes through once: that of a
record in several windows when it has been put together of them.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from gpu_tasks.errors import ModelLoadError, UnsupportedModel
from gpu_tasks.models.files import ModelFiles
from gpu_tasks.models.weights import Tensors, read_tensors
from queue_app.model.spec import DenseSpec, HeadModule, LayerNormSpec, NormalizeSpec, TruncateSpec

Module = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """The modules in their order; pooled vectors float32[n, width] to float32[n, dim]."""

    modules: tuple[Module, ...] = ()

    def __call__(self, vectors: Tensor) -> Tensor:
        for module in self.modules:
            vectors = module(vectors)
        return vectors


@dataclass(frozen=True, slots=True, eq=False)
class Dense:
    weight: Tensor
    bias: Tensor | None
    activation: torch.nn.Module
    residual: Callable[[Tensor], Tensor] | None

    def __call__(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(functional.linear(x, self.weight, self.bias))
        return out if self.residual is None else out + self.residual(x)


def load_head(specs: Iterable[HeadModule], files: ModelFiles, device: torch.device) -> Head:
    """Raises ModelLoadError for missing or misshapen weights, or files that are not the specification's."""
    return Head(tuple(_module(spec, files, device) for spec in specs))


def _module(spec: HeadModule, files: ModelFiles, device: torch.device) -> Module:
    if isinstance(spec, NormalizeSpec):
        return functional.normalize
    if isinstance(spec, TruncateSpec):
        return _truncate(spec.dim)
    tensors = _Stored(spec.file, read_tensors(files, [spec.file]), device)
    return _dense(spec, tensors) if isinstance(spec, DenseSpec) else _layer_norm(spec, tensors)


@dataclass(frozen=True, slots=True)
class _Stored:
    file: str
    tensors: Tensors
    device: torch.device

    def take(self, name: str, *shape: int) -> Tensor:
        if name not in self.tensors or self.tensors[name].shape != shape:
            raise ModelLoadError(f"{self.file}: lacks {name} of the shape {[*shape]}")
        return self.tensors[name].to(self.device, torch.float32)


def _dense(spec: DenseSpec, stored: _Stored) -> Dense:
    shape = spec.outputs, spec.inputs
    residual: Callable[[Tensor], Tensor] | None = None
    if spec.residual and spec.inputs == spec.outputs:
        residual = _unchanged
    elif spec.residual:
        residual = Dense(stored.take("residual.weight", *shape), None, torch.nn.Identity(), None)
    return Dense(
        weight=stored.take("linear.weight", *shape),
        bias=stored.take("linear.bias", spec.outputs) if spec.biased else None,
        activation=_activation(spec),
        residual=residual,
    )


def _activation(spec: DenseSpec) -> torch.nn.Module:
    try:
        activation = getattr(torch.nn, spec.activation)().eval()
    except (AttributeError, TypeError):
        raise UnsupportedModel(f"{spec.file}: torch.nn has no activation {spec.activation!r}") from None
    if any(True for _ in activation.parameters()):
        raise UnsupportedModel(f"{spec.file}: the activation {spec.activation} has weights of its own")
    assert isinstance(activation, torch.nn.Module)
    return activation


def _layer_norm(spec: LayerNormSpec, stored: _Stored) -> Module:
    weight, bias = stored.take("norm.weight", spec.dim), stored.take("norm.bias", spec.dim)
    return lambda x: functional.layer_norm(x, (spec.dim,), weight, bias)


def _truncate(dim: int) -> Module:
    return lambda x: x[:, :dim]


def _unchanged(x: Tensor) -> Tensor:
    return x
