"""Load a model by its specification. The families import torch themselves: `mock:DIM` runs without."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gpu_tasks.inference.model import Dtype, EmbeddingModel, KernelChoice

if TYPE_CHECKING:
    from gpu_tasks.inference.exact_shapes import ExactShapes
    from queue_app.model.spec import ModelSpec


def load(
    spec: "ModelSpec",
    tokenizer: str | None,
    *,
    device: str = "cpu",
    dtype: Dtype = "float32",
    pools: tuple[str, ...] | None = None,
    layers: Sequence[int] = (-1,),
    threads: int | None = None,
    kernels: KernelChoice = "fused",
    shapes: "ExactShapes | None" = None,
) -> EmbeddingModel:
    """Load a model by its specification. `tokenizer` is the JSON text that was kept with it.

    `kernels` are those of a CUDA device; where no fused ones are to be had, plain ones are taken. With
    `shapes` a vector depends on no company.

    Raises:
        ModelLoadError: a file is missing or not that of the specification, or its weights do not fit.
        UnsupportedModel: what it says has no implementation here.
        DeviceUnavailable: there is no such device.
        ValueError: unknown layer.
        UsageError: its head does not go with the pools.
    """
    if spec.family == "mock":
        from gpu_tasks.models.mock import load_mock

        return load_mock(spec.path, pools=pools, layers=tuple(layers))
    from gpu_tasks.models.from_spec import load_directory

    return load_directory(
        spec, tokenizer, device=device, dtype=dtype, pools=pools, layers=layers, threads=threads,
        kernels=kernels, shapes=shapes,
    )  # fmt: skip
