"""A transformer on packed tokens: what all torch families share, from planned batch to pooled vector."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gpu_tasks.batching import TokenBatch
from gpu_tasks.device import Fetched, HostPending, Pending, StoreDtype
from gpu_tasks.pooling import finite_rows, pool_rows, pooling_bounds
from gpu_tasks.readout import Readout
from gpu_tasks.rows import Offsets, offsets_of
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


class Encoder(Protocol):
    """A transformer without its readout."""

    @property
    def num_layers(self) -> int: ...

    def __call__(self, packed: Packed, layers: tuple[int, ...]) -> list[Tensor]:
        """Hidden states [T, dim] behind each of these layers; 0 is before the first. No later layer runs."""
        ...


def tap(states: Iterator[Tensor], layers: tuple[int, ...]) -> list[Tensor]:
    """Those of these layers, in their order, of the states from layer 0 on."""
    found = {layer: hidden for layer, hidden in enumerate(states) if layer in layers}
    return [found[layer] for layer in layers]


class Tokenizer(Protocol):
    """Text to payload ids. `prefix` and `suffix` are the special tokens around every segment."""

    @property
    def prefix(self) -> tuple[int, ...]: ...
    @property
    def suffix(self) -> tuple[int, ...]: ...

    def tokenize(self, sequences: Sequence[str]) -> list[npt.NDArray[np.int32]]: ...


@dataclass(frozen=True, slots=True, eq=False)
class PackedModel:
    """A model from a directory. See EmbeddingModel; the layers of its readout count from 0.

    `pool_special` pools the special tokens with the rest, as sentence-transformers does. `max_positions`
    is the longest segment that the weights have positions for, special tokens included, or None.
    """

    name: str
    hidden_size: int
    max_length: int
    readout: Readout
    normalize: bool
    pool_special: bool
    max_positions: int | None
    tokenizer: Tokenizer
    encoder: Encoder
    on: TorchDevice

    @property
    def dim(self) -> int:
        return self.hidden_size * self.readout.num_vectors

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

    def stage(self, batch: TokenBatch) -> "PackedStaged | RaggedStaged | EmptyStaged":
        """Raises ValueError when a segment is longer than the model has positions for."""
        if batch.num_rows == 0:
            return EmptyStaged(self.dim, self.readout.is_ragged)
        if self.max_positions is not None and batch.max_seqlen > self.max_positions:
            # On CUDA the embedding's index check would take the whole context down.
            raise ValueError(
                f"batch {batch.batch_idx}: a segment of {batch.max_seqlen} tokens, but {self.name} has "
                f"{self.max_positions} positions; plan with max_length="
                f"{self.max_positions - len(self.prefix) - len(self.suffix)} or less"
            )
        kind = RaggedStaged if self.readout.is_ragged else PackedStaged
        return kind(self, batch, _runs(batch), self._upload(batch))

    def _upload(self, batch: TokenBatch) -> Upload:
        # One array, one copy: split again on the device.
        starts = np.repeat(batch.cu_seqlens[:-1], np.diff(batch.cu_seqlens))
        positions = np.arange(len(batch.input_ids)) - starts
        return self.on.upload(
            np.concatenate([batch.cu_seqlens, self.bounds(batch), batch.input_ids, positions])
        )

    def bounds(self, batch: TokenBatch) -> npt.NDArray[np.int64]:
        """Which tokens are read out, as `pooling_bounds` says it."""
        whole = self.pool_special and not self.readout.is_ragged
        num_prefix, num_suffix = (0, 0) if whole else (len(self.prefix), len(self.suffix))
        return pooling_bounds(batch, num_prefix, num_suffix)

    def hidden_states(self, packed: Packed) -> list[Tensor]:
        """Of each layer of the readout, [T, hidden_size]."""
        return self.encoder(packed, self.readout.layers)


@dataclass(frozen=True, slots=True, eq=False)
class PackedStaged:
    """One vector for each row and pool: [n, dim]."""

    model: PackedModel
    batch: TokenBatch
    runs: tuple[tuple[int, int], ...]
    upload: Upload

    def launch(self, store_dtype: StoreDtype) -> Pending:
        return self.upload.compute(lambda flat: self._embed(flat, getattr(torch, store_dtype)))

    def _embed(self, flat: Tensor, store_dtype: torch.dtype) -> Outputs:
        packed = unpack(flat, self.batch, self.runs)
        vectors = [
            self._finish(pool_rows(hidden, packed.bounds, pool))
            for hidden in self.model.hidden_states(packed)
            for pool in self.model.readout.pools
        ]
        embeddings = torch.cat(vectors, dim=1).to(store_dtype)
        return Outputs(embeddings, embeddings.isfinite().all(dim=1))

    def _finish(self, vectors: Tensor) -> Tensor:
        """What the model makes of the pooled vectors of whole records. Of windows, gpu_tasks.windows does it
        to the record's vector once it is put together."""
        if self.batch.of_windows or not self.model.normalize:
            return vectors
        return torch.nn.functional.normalize(vectors, dim=1)


@dataclass(frozen=True, slots=True, eq=False)
class RaggedStaged:
    """One vector for each token of a row, special tokens left out: [sum of lengths, dim]."""

    model: PackedModel
    batch: TokenBatch
    runs: tuple[tuple[int, int], ...]
    upload: Upload

    def launch(self, store_dtype: StoreDtype) -> "RaggedPending":
        bounds = self.model.bounds(self.batch)
        lengths = bounds[2::3] - bounds[1::3]
        pending = self.upload.compute(
            lambda flat: self._embed(flat, getattr(torch, store_dtype), int(lengths.sum()))
        )
        return RaggedPending(pending, offsets_of(lengths))

    def _embed(self, flat: Tensor, store_dtype: torch.dtype, num_tokens: int) -> Outputs:
        packed = unpack(flat, self.batch, self.runs)
        hidden = torch.cat(self.model.hidden_states(packed), dim=1).to(store_dtype)
        lengths, firsts = packed.bounds.diff()[1::3], packed.bounds[1:-1:3]
        # With its size given, the device need not be waited for.
        rows = torch.repeat_interleave(lengths, output_size=num_tokens)
        behind = torch.arange(num_tokens, device=flat.device) - (lengths.cumsum(0) - lengths)[rows]
        return Outputs(
            hidden.index_select(0, firsts[rows] + behind),
            finite_rows(hidden.isfinite().all(dim=1), packed.bounds),
        )


@dataclass(frozen=True, slots=True, eq=False)
class RaggedPending:
    """A computation under way whose rows are ragged."""

    pending: Pending
    offsets: Offsets

    def wait(self) -> Fetched:
        return replace(self.pending.wait(), offsets=self.offsets)


@dataclass(frozen=True, slots=True)
class EmptyStaged:
    """A batch whose records were all set aside."""

    dim: int
    is_ragged: bool

    def launch(self, store_dtype: StoreDtype) -> HostPending:
        nothing, offsets = np.empty((0, self.dim), store_dtype), offsets_of([]) if self.is_ragged else None
        return HostPending(Fetched(nothing, np.empty(0, np.bool_), offsets=offsets))


def unpack(flat: Tensor, batch: TokenBatch, runs: tuple[tuple[int, int], ...]) -> Packed:
    """What was uploaded as one array, taken apart on the device."""
    num_rows = batch.num_rows
    cu_seqlens, bounds, tokens = flat.tensor_split((num_rows + 1, 4 * num_rows + 2))
    input_ids, positions = tokens.chunk(2)
    return Packed(input_ids, positions, cu_seqlens.int(), bounds, runs, batch.max_seqlen)


def _runs(batch: TokenBatch) -> tuple[tuple[int, int], ...]:
    lengths = np.diff(batch.cu_seqlens).tolist()
    return tuple((len(list(rows)), length) for length, rows in groupby(lengths))
