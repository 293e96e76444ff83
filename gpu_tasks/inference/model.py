"""What the runner computes with: a loaded model, and the three stations that a batch passes on its device.

`stage` (loader thread) moves its tokens to the device, `launch` (the caller's thread) starts the computation
and the copy back, `wait` ends when the vectors lie on the host. On CUDA all three only queue work, on streams
of their own; on the host `launch` does it all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from gpu_tasks.inference.batch_plan import TokenBatch
from gpu_tasks.inference.readout import Left, Readout
from gpu_tasks.inference.rows import Offsets, Vectors, split_rows

Dtype = Literal["float32", "bfloat16", "float16", "int8"]
StoreDtype = Literal["float32", "float16"]
KernelChoice = Literal["fused", "plain"]


@dataclass(frozen=True, slots=True)
class DeviceSeconds:
    """How long the device itself was at a batch. On the host nothing is copied."""

    copy_in: float = 0.0
    compute: float = 0.0
    copy_out: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Fetched:
    """One vector per row, [n, dim] in the store's dtype, and whether all its numbers are finite, bool[n].

    With `offsets` uint64[n + 1] the rows are ragged: see gpu_tasks.inference.rows.
    """

    embeddings: Vectors
    finite: npt.NDArray[np.bool_]
    seconds: DeviceSeconds = DeviceSeconds()
    offsets: Offsets | None = None


class Pending(Protocol):
    """A computation under way."""

    def wait(self) -> Fetched:
        """Block until the copy back has ended. The arrays are the caller's to keep."""
        ...


class Staged(Protocol):
    """A batch whose tokens lie on the device, or are on their way there."""

    def launch(self, store_dtype: StoreDtype) -> Pending:
        """Start computing. May be called again after it raised OutOfMemory."""
        ...


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

    def stage(self, batch: TokenBatch) -> Staged:
        """Move a batch to the device. Called in the runner's loader thread."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class HostPending:
    """A computation that was over when it began."""

    fetched: Fetched

    def wait(self) -> Fetched:
        return self.fetched


def host_pending(
    vectors: npt.NDArray[np.float32], store_dtype: StoreDtype, offsets: Offsets | None = None
) -> HostPending:
    """Round float32[n, dim] to the store's dtype, then check: float16 overflows above 65,504.

    Of ragged rows one without vectors counts as not finite: there is nothing to store.
    """
    with np.errstate(over="ignore"):
        embeddings = vectors.astype(store_dtype)
    finite = np.isfinite(embeddings).all(axis=1)
    if offsets is not None:
        parts = split_rows(finite, offsets)
        finite = np.array([len(part) > 0 and part.all() for part in parts], np.bool_)
    return HostPending(Fetched(embeddings, finite, offsets=offsets))
