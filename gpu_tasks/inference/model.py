"""What the runner computes with: the one protocol behind which every model family stands."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import numpy.typing as npt

from gpu_tasks.inference.readout import Left, Readout

if TYPE_CHECKING:
    from gpu_tasks.inference.batch_plan import TokenBatch
    from gpu_tasks.inference.device import Staged


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
