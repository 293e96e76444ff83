"""A transformer on packed tokens: what all torch families share, from planned batch to pooled vector."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from gpu_tasks.inference.batch_plan import TokenBatch
from gpu_tasks.inference.exact_shapes import HEAD_ROWS, ExactShapes, filled
from gpu_tasks.inference.model import Fetched, HostPending, Pending, StoreDtype
from gpu_tasks.inference.pooling import RowTokens, finite_rows, pool_rows, pooling_bounds
from gpu_tasks.inference.readout import Left, Readout, joined_pools
from gpu_tasks.inference.rows import Offsets, offsets_of
from gpu_tasks.inference.torch_device import Outputs, TorchDevice, Upload
from gpu_tasks.models.head import Head
from gpu_tasks.models.layers import Encoder, Packed
from gpu_tasks.models.tokens import Tokens


@dataclass(frozen=True, slots=True, eq=False)
class PackedModel:
    """A model from a directory. See EmbeddingModel; the layers of its readout count from 0.

    `pool_special` pools the special tokens with the rest, as sentence-transformers does. `max_positions`
    is the longest segment that the weights have positions for, special tokens included, or None. `padding` is
    as in `positions_of`. `dim` is the width of what the head makes of all that the readout puts side by side.
    `contacts` gives a map [L, L] for each row, special tokens left out, where the readout asks for them.
    With `shapes` a vector depends on no company.
    """

    name: str
    hidden_size: int
    dim: int
    max_length: int
    readout: Readout
    pool_special: bool
    max_positions: int | None
    padding: tuple[int, int] | None
    tokenizer: Tokens
    encoder: Encoder
    head: Head
    on: TorchDevice
    contacts: Callable[[Packed], list[Tensor]] | None = None
    shapes: ExactShapes | None = None

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

    def count_unknown(self, ids: npt.NDArray[np.int32]) -> int:
        return self.tokenizer.count_unknown(ids)

    @property
    def left(self) -> Left:
        num_lead, num_prompt = self.tokenizer.num_lead, self.tokenizer.num_prompt
        if self.pool_special and not self.readout.is_ragged:
            return Left(0, 0, num_prompt, num_prompt)
        return Left(len(self.prefix), len(self.suffix), num_lead, num_prompt)

    def finish(self, pooled: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """See EmbeddingModel."""
        ends = np.cumsum([self.hidden_size * len(joined_pools(pool)) for pool in self.readout.side_by_side])
        parts = np.split(pooled, ends[:-1], axis=1)
        with self.on.computing(), torch.inference_mode():
            found = [self.head(torch.from_numpy(part).to(self.on.device)) for part in parts]
            finished: npt.NDArray[np.float32] = torch.cat(found, dim=1).cpu().numpy()
        return finished

    def stage(self, batch: TokenBatch) -> "PackedStaged | EmptyStaged":
        """Raises ValueError when a segment is longer than the model has positions for, or a window where
        only whole records can be read out."""
        if batch.num_rows == 0:
            return EmptyStaged(self.dim, self.readout.is_ragged)
        if self.max_positions is not None and batch.max_seqlen > self.max_positions:
            # On CUDA the embedding's index check would take the whole context down.
            raise ValueError(
                f"batch {batch.batch_idx}: a segment of {batch.max_seqlen} tokens, but {self.name} has "
                f"{self.max_positions} positions; plan with max_length="
                f"{self.max_positions - len(self.prefix) - len(self.suffix)} or less"
            )
        if self.contacts and batch.of_windows:
            raise ValueError(f"batch {batch.batch_idx}: windows of a record make no map of its contacts")
        num_rows = batch.num_rows
        if self.shapes is not None:
            batch = filled(batch, self.shapes.num_tokens(batch), self.max_positions)
        positions = positions_of(batch, self.padding)
        bounds, firsts = pooling_bounds(batch, self.left)
        # One array, one copy: split again on the device.
        upload = self.on.upload(
            np.concatenate([batch.cu_seqlens, bounds, firsts, batch.input_ids, positions])
        )
        by_length = groupby(np.diff(batch.cu_seqlens).tolist())
        runs = tuple((len(list(rows)), length) for length, rows in by_length)
        return PackedStaged(self, batch, num_rows, runs, upload)


@dataclass(frozen=True, slots=True, eq=False)
class PackedStaged:
    """One vector for each row and pool, [n, dim]; of a ragged readout one for each token of a row, special
    ones left out, [sum of lengths, dim], or for each pair of them, [sum of squared lengths, 1].

    `batch` has more rows than the `num_rows` that are read out, where it was filled."""

    model: PackedModel
    batch: TokenBatch
    num_rows: int
    runs: tuple[tuple[int, int], ...]
    upload: Upload

    def launch(self, store_dtype: StoreDtype) -> Pending:
        dtype = getattr(torch, store_dtype)
        if not self.model.readout.is_ragged:
            return self.upload.compute(lambda flat: self._pooled(self._unpack(flat), dtype))
        bounds, _ = pooling_bounds(self.batch, self.model.left)
        lengths = (bounds[2::3] - bounds[1::3])[: self.num_rows]
        if self.model.contacts:
            pending = self.upload.compute(lambda flat: self._contacts(self._unpack(flat), dtype))
            return RaggedPending(pending, offsets_of(lengths**2))
        num_tokens = int(lengths.sum())
        pending = self.upload.compute(lambda flat: self._each_token(self._unpack(flat), dtype, num_tokens))
        return RaggedPending(pending, offsets_of(lengths))

    def _unpack(self, flat: Tensor) -> Packed:
        """What was uploaded as one array, taken apart on the device."""
        num_rows = self.batch.num_rows
        parts = (num_rows + 1, 4 * num_rows + 2, 5 * num_rows + 2)
        cu_seqlens, bounds, firsts, tokens = flat.tensor_split(parts)
        input_ids, positions = tokens.chunk(2)
        longest = self.batch.max_seqlen
        if self.model.shapes is not None and self.model.shapes.longest is not None:
            longest = max(longest, self.model.shapes.longest)
        return Packed(input_ids, positions, cu_seqlens.int(), bounds, firsts, self.runs, longest)

    def _pooled(self, packed: Packed, dtype: torch.dtype) -> Outputs:
        rows = RowTokens(packed.bounds, packed.firsts)
        # Windows stay as they were pooled: the head is for the record's vector, once it is put together.
        head = self._unfinished if self.batch.of_windows else self._finished
        vectors = [
            head(pool_rows(hidden, rows, pool)[: self.num_rows])
            for hidden in self.model.encoder(packed, self.model.readout.layers)
            for pool in self.model.readout.pools
        ]
        embeddings = torch.cat(vectors, dim=1).to(dtype)
        return Outputs(embeddings, embeddings.isfinite().all(dim=1))

    def _unfinished(self, vectors: Tensor) -> Tensor:
        return vectors

    def _finished(self, vectors: Tensor) -> Tensor:
        """What the head makes of pooled vectors; so many at a time that its products have one shape."""
        head = self.model.head
        if self.model.shapes is None or not head.modules:
            return head(vectors)
        missing = -len(vectors) % HEAD_ROWS
        whole = functional.pad(vectors, (0, 0, 0, missing))
        return torch.cat([head(rows) for rows in torch.split(whole, HEAD_ROWS)])[: len(vectors)]

    def _each_token(self, packed: Packed, dtype: torch.dtype, num_tokens: int) -> Outputs:
        states = self.model.encoder(packed, self.model.readout.layers)
        hidden = torch.cat(states, dim=1).to(dtype)
        lengths, firsts = packed.bounds.diff()[1::3], packed.bounds[1:-1:3]
        # With its size given, the device need not be waited for.
        rows = torch.repeat_interleave(lengths, output_size=num_tokens)
        behind = torch.arange(num_tokens, device=hidden.device) - (lengths.cumsum(0) - lengths)[rows]
        return Outputs(
            hidden.index_select(0, firsts[rows] + behind),
            finite_rows(hidden.isfinite().all(dim=1), packed.bounds)[: self.num_rows],
        )

    def _contacts(self, packed: Packed, dtype: torch.dtype) -> Outputs:
        assert self.model.contacts is not None
        maps = [each.flatten().to(dtype) for each in self.model.contacts(packed)[: self.num_rows]]
        return Outputs(torch.cat(maps)[:, None], torch.stack([each.isfinite().all() for each in maps]))


@dataclass(frozen=True, slots=True, eq=False)
class RaggedPending:
    """A computation under way whose rows are ragged."""

    pending: Pending
    offsets: Offsets

    def wait(self) -> Fetched:
        return replace(self.pending.wait(), offsets=self.offsets)


@dataclass(frozen=True, slots=True)
class EmptyStaged:
    """A batch whose records were all quarantined."""

    dim: int
    is_ragged: bool

    def launch(self, store_dtype: StoreDtype) -> HostPending:
        nothing, offsets = np.empty((0, self.dim), store_dtype), offsets_of([]) if self.is_ragged else None
        return HostPending(Fetched(nothing, np.empty(0, np.bool_), offsets=offsets))


def positions_of(batch: TokenBatch, padding: tuple[int, int] | None) -> npt.NDArray[np.int64]:
    """The position of each token, int64[T], from 0 in every row.

    `padding` is for models that count only tokens other than one: its id, and the position that it has. It
    stands in a row where somebody's text holds it.
    """
    lengths = np.diff(batch.cu_seqlens)
    places = np.arange(len(batch.input_ids)) - np.repeat(batch.cu_seqlens[:-1], lengths)
    if padding is None or not (skipped := batch.input_ids == padding[0]).any():
        return places
    before = np.cumsum(skipped) - skipped
    before -= np.repeat(before[batch.cu_seqlens[:-1]], lengths)
    return np.where(skipped, padding[1], places - before)
