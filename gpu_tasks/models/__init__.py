"""The one protocol behind which every model family stands, and the way to load one.

Torch is imported by the families that need it, never here: `mock:DIM` runs without it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, cast, get_args

import numpy as np
import numpy.typing as npt

from gpu_tasks.errors import ModelLoadError
from gpu_tasks.inference.readout import Left, Readout, parse_pools

if TYPE_CHECKING:
    from gpu_tasks.inference.batch_plan import TokenBatch
    from gpu_tasks.inference.device import Staged
    from queue_app.model.spec import ModelSpec

Dtype = Literal["float32", "bfloat16", "float16"]


class EmbeddingModel(Protocol):
    """A loaded model on its device: tokens in, the row of each segment out.

    `dim` is the width of a stored vector: the model's own, times those that the readout puts side by side.
    `max_length` counts the payload tokens of one segment; `prefix` and `suffix` are the special tokens
    that the planner puts around each; `left` says which tokens of a row are not pooled; `lookahead` is how
    many batches may be under way beside the one being fetched: 0 on the host, where nothing overlaps.
    """

    @property
    def name(self) -> str: ...
    @property
    def dim(self) -> int: ...
    @property
    def max_length(self) -> int: ...
    @property
    def prefix(self) -> tuple[int, ...]: ...
    @property
    def suffix(self) -> tuple[int, ...]: ...
    @property
    def readout(self) -> Readout: ...
    @property
    def left(self) -> Left: ...
    @property
    def lookahead(self) -> int: ...

    def tokenize(self, sequences: Sequence[str]) -> list[npt.NDArray[np.int32]]:
        """Payload ids per sequence, without special tokens, never truncated."""
        ...

    def count_unknown(self, ids: npt.NDArray[np.int32]) -> int:
        """How many of a sequence's payload ids stand for what the vocabulary lacks."""
        ...

    def finish(self, pooled: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """What the model makes of pooled vectors, [n, dim]. Rows of whole records come finished, those of
        windows as they were pooled, in their order side by side: they are put together first."""
        ...

    def stage(self, batch: "TokenBatch") -> "Staged":
        """Move a batch to the device. Called in the runner's loader thread."""
        ...


def load(
    spec: "ModelSpec",
    tokenizer: str | None,
    *,
    device: str = "cpu",
    dtype: Dtype = "float32",
    pools: tuple[str, ...] | None = None,
    layers: Sequence[int] = (-1,),
    threads: int | None = None,
) -> EmbeddingModel:
    """Load a model by its specification. `tokenizer` is the JSON text that was kept with it.

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
        spec, tokenizer, device=device, dtype=dtype, pools=pools, layers=layers, threads=threads
    )


def load_model(
    ref: str,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    pool: str | None = None,
    layers: Sequence[int] = (-1,),
    threads: int | None = None,
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
        reading.spec,
        reading.tokenizer,
        device=device,
        dtype=cast("Dtype", dtype),
        pools=pools,
        layers=layers,
        threads=threads,
    )
