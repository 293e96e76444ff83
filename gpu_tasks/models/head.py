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
from gpu_tasks.models.weights import read_tensors
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


def load_head(specs: Iterable[HeadModule], files: ModelFiles, device: torch.device) -> Head:
    """Raises ModelLoadError for missing or misshapen weights, or files that are not the specification's."""
    return Head(tuple(_module(spec, files, device) for spec in specs))


def _module(spec: HeadModule, files: ModelFiles, device: torch.device) -> Module:
    match spec:
        case NormalizeSpec():
            return functional.normalize
        case TruncateSpec():
            return lambda x: x[:, : spec.dim]
        case LayerNormSpec():
            weight, bias = _stored(
                spec, files, device, {"norm.weight": (spec.dim,), "norm.bias": (spec.dim,)}
            )
            return lambda x: functional.layer_norm(x, (spec.dim,), weight, bias)
        case DenseSpec():
            return _dense(spec, files, device)


def _dense(spec: DenseSpec, files: ModelFiles, device: torch.device) -> Module:
    shape = spec.outputs, spec.inputs
    wanted: dict[str, tuple[int, ...]] = {"linear.weight": shape}
    wanted |= {"linear.bias": shape[:1]} if spec.biased else {}
    wanted |= {"residual.weight": shape} if spec.residual and spec.inputs != spec.outputs else {}
    found = dict(zip(wanted, _stored(spec, files, device, wanted), strict=True))
    weight, bias, beside = (found.get(name) for name in ("linear.weight", "linear.bias", "residual.weight"))
    assert weight is not None
    activation = _activation(spec)

    def dense(x: Tensor) -> Tensor:
        out: Tensor = activation(functional.linear(x, weight, bias))
        if not spec.residual:
            return out
        return out + (x if beside is None else functional.linear(x, beside))

    return dense


def _stored(
    spec: DenseSpec | LayerNormSpec,
    files: ModelFiles,
    device: torch.device,
    wanted: dict[str, tuple[int, ...]],
) -> list[Tensor]:
    """The module's tensors of these names and shapes, in float32."""
    tensors = read_tensors(files, [spec.file])
    for name, shape in wanted.items():
        if name not in tensors or tensors[name].shape != shape:
            raise ModelLoadError(f"{spec.file}: lacks {name} of the shape {[*shape]}")
    return [tensors[name].to(device, torch.float32) for name in wanted]


def _activation(spec: DenseSpec) -> torch.nn.Module:
    try:
        activation = getattr(torch.nn, spec.activation)().eval()
    except (AttributeError, TypeError):
        raise UnsupportedModel(f"{spec.file}: torch.nn has no activation {spec.activation!r}") from None
    if any(True for _ in activation.parameters()):
        raise UnsupportedModel(f"{spec.file}: the activation {spec.activation} has weights of its own")
    assert isinstance(activation, torch.nn.Module)
    return activation
