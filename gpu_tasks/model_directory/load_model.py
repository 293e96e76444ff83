"""`load_model`: read a model directory, and load the model that it says."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast, get_args

from gpu_tasks.errors import ModelLoadError
from gpu_tasks.inference.model import Dtype, EmbeddingModel, KernelChoice
from gpu_tasks.inference.readout import parse_pools
from gpu_tasks.models.loading import load


def load_model(
    ref: str,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    pool: str | None = None,
    layers: Sequence[int] = (-1,),
    threads: int | None = None,
    kernels: KernelChoice = "fused",
) -> EmbeddingModel:
    """Read a model directory, and load the model.

    Args:
        ref: a directory with config.json and safetensors, or `mock:DIM[,delay_ms=N]`.
        device: `cpu`, `cuda` or `cuda:N`.
        dtype: of weights and activations: float32, bfloat16 or float16. Pooling sums in float64.
        pool: one or several of mean, cls, max, last, mean_sqrt_len and weighted_mean, as in `mean,cls`;
            `none` for a vector per token; None for the model's own pooling.
        layers: whose hidden states are pooled: 0 is before the first layer, -1 the last one.
        threads: torch's compute threads on the CPU; None leaves them as they are.
        kernels: those of a CUDA device: fused where it can have them, or plain torch's.

    Raises:
        ModelError: the directory cannot be computed as transformers or sentence-transformers would.
        ModelLoadError: the reference is unknown, or the weights do not fit what the directory says.
        UnsupportedModel: the model's family or configuration has no implementation here.
        DeviceUnavailable: there is no such device.
        ValueError: unknown dtype, pool or layer.
    """
    if dtype not in get_args(Dtype):
        raise ValueError(f"dtype={dtype!r}: not one of {', '.join(get_args(Dtype))}")
    pools = None if pool is None else parse_pools(pool)
    if ref.startswith("mock:"):
        from gpu_tasks.models.mock import load_mock

        return load_mock(ref, pools=pools, layers=tuple(layers))
    if not Path(ref).is_dir():
        raise ModelLoadError(f"{ref}: not a model directory, and not mock:DIM")
    from gpu_tasks.model_directory.reader import read_model

    reading = read_model(Path(ref))
    return load(
        reading.spec, reading.tokenizer, device=device, dtype=cast("Dtype", dtype), pools=pools,
        layers=layers, threads=threads, kernels=kernels,
    )  # fmt: skip
