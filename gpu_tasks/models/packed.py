"""A transformer on packed tokens: what all torch families share, from planned batch to pooled vector."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gpu_tasks.batching import TokenBatch
from gpu_tasks.device import Fetched, HostPending, Pending, StoreDtype
from gpu_tasks.models import Pool
from gpu_tasks.pooling import pool_rows, pooling_bounds
from gpu_tasks.torch_device import Outputs, TorchDevice, Upload


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """A batch on the device.

    `input_ids` and `positions` (from 0 in every row) are int64[T], `cu_seqlens` int32[n + 1], `bounds`
    int64[3n + 1] as in `pooling_bounds`. `runs` stays on the host: (count, length) of neighbouring rows
    of equal length; there are few, as the planner sorts by length.
    """

    input_ids: Tensor
    positions: Tensor
    cu_seqlens: Tensor
    bounds: Tensor
    runs: tuple[tuple[int, int], ...]
    max_seqlen: int


Encoder = Callable[[Packed], Tensor]
"""Hidden states [T, dim] of a packed batch."""


class Tokenizer(Protocol):
    """Text to payload ids. `prefix` and `suffix` are the special tokens around every segment."""

    @property
    def prefix(self) -> tuple[int, ...]: ...
    @property
    def suffix(self) -> tuple[int, ...]: ...

    def tokenize(self, sequences: Sequence[str]) -> list[npt.NDArray[np.int32]]: ...


@dataclass(frozen=True, slots=True, eq=False)
class PackedModel:
    """A model from a directory. See EmbeddingModel.

    `pool_special` pools the special tokens with the rest, as sentence-transformers does. `max_positions`
    is the longest segment that the weights have positions for, special tokens included, or None.
    """

    name: str
    dim: int
    max_length: int
    pool: Pool
    normalize: bool
    pool_special: bool
    max_positions: int | None
    tokenizer: Tokenizer
    encoder: Encoder
    on: TorchDevice

    @property
    def prefix(self) -> tuple[int, ...]:
        return self.tokenizer.prefix

    @property
    def suffix(self) -> tuple[int, ...]:
        return self.tokenizer.suffix

    @property
    def lookahead(self) -> int:
        return self.on.lookahead

    def tokenize(self, sequences: Sequence[str]) -> list[npt.NDArray[np.int32]]:
        return self.tokenizer.tokenize(sequences)

    def stage(self, batch: TokenBatch) -> "PackedStaged | EmptyStaged":
        """Raises ValueError when a segment is longer than the model has positions for."""
        if batch.num_rows == 0:
            return EmptyStaged(self.dim)
        if self.max_positions is not None and batch.max_seqlen > self.max_positions:
            # On CUDA the embedding's index check would take the whole context down.
            raise ValueError(
                f"batch {batch.batch_idx}: a segment of {batch.max_seqlen} tokens, but {self.name} has "
                f"{self.max_positions} positions; plan with max_length={self.max_length} or less"
            )
        return PackedStaged(self, batch.num_rows, batch.max_seqlen, _runs(batch), self._upload(batch))

    def _upload(self, batch: TokenBatch) -> Upload:
        # One array, one copy: split again on the device.
        starts = np.repeat(batch.cu_seqlens[:-1], np.diff(batch.cu_seqlens))
        positions = np.arange(len(batch.input_ids)) - starts
        num_prefix, num_suffix = (0, 0) if self.pool_special else (len(self.prefix), len(self.suffix))
        bounds = pooling_bounds(batch.cu_seqlens, num_prefix, num_suffix)
        return self.on.upload(np.concatenate([batch.cu_seqlens, bounds, batch.input_ids, positions]))


@dataclass(frozen=True, slots=True, eq=False)
class PackedStaged:
    model: PackedModel
    num_rows: int
    max_seqlen: int
    runs: tuple[tuple[int, int], ...]
    upload: Upload

    def launch(self, store_dtype: StoreDtype) -> Pending:
        return self.upload.compute(lambda flat: self._embed(flat, getattr(torch, store_dtype)))

    def _embed(self, flat: Tensor, store_dtype: torch.dtype) -> Outputs:
        packed = self._unpack(flat)
        vectors = pool_rows(self.model.encoder(packed), packed.bounds, self.model.pool)
        if self.model.normalize:
            vectors = torch.nn.functional.normalize(vectors, dim=1)
        embeddings = vectors.to(store_dtype)
        return Outputs(embeddings, embeddings.isfinite().all(dim=1))

    def _unpack(self, flat: Tensor) -> Packed:
        cu_seqlens, bounds, tokens = flat.tensor_split((self.num_rows + 1, 4 * self.num_rows + 2))
        input_ids, positions = tokens.chunk(2)
        return Packed(input_ids, positions, cu_seqlens.int(), bounds, self.runs, self.max_seqlen)


@dataclass(frozen=True, slots=True)
class EmptyStaged:
    """A batch whose records were all set aside."""

    dim: int

    def launch(self, store_dtype: StoreDtype) -> HostPending:
        return HostPending(Fetched(np.empty((0, self.dim), store_dtype), np.empty(0, np.bool_)))


def _runs(batch: TokenBatch) -> tuple[tuple[int, int], ...]:
    lengths = np.diff(batch.cu_seqlens).tolist()
    return tuple((len(list(rows)), length) for length, rows in groupby(lengths))
