"""The batch plan: which tokens go into which batch, fixed once and for all. Numpy only."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from gpu_tasks.inference.rows import Int64s, Ordinals
from gpu_tasks.inference.segments import Segments, bounds_of, owned_places


@dataclass(frozen=True, slots=True, eq=False)
class TokenBatch:
    """The packed tokens of n rows. A row is a segment: a whole record, or one window of a long one.

    `ordinals` uint64[n] repeats for the windows of one record, in their order; `input_ids` int64[T] holds
    the rows end to end with their special tokens; row i is `input_ids[cu_seqlens[i]:cu_seqlens[i + 1]]`
    (int32[n + 1]); `max_seqlen` counts the tokens of the longest row.

    Row i owns its tokens from `owned_starts[i]` to `owned_ends[i]` (int64[n], counted in the row, special
    tokens too): only these are read out. A whole record owns all of them, the windows of a record each
    another part: see `owned_bounds`; the special tokens before the first and behind the last go with those.
    With `of_windows` all rows are windows, else none is. `halvings` counts how often the batch was halved, as
    it did not fit in memory.
    """

    batch_idx: int
    ordinals: Ordinals
    input_ids: Int64s
    cu_seqlens: npt.NDArray[np.int32]
    max_seqlen: int
    owned_starts: Int64s
    owned_ends: Int64s
    of_windows: bool
    halvings: int = 0

    @property
    def num_rows(self) -> int:
        return len(self.ordinals)

    def select(self, rows: npt.NDArray[np.bool_]) -> "TokenBatch":
        """The same batch with only the rows where the bool[n] mask is true."""
        lengths = np.diff(self.cu_seqlens)
        kept = lengths[rows]
        return TokenBatch(
            self.batch_idx,
            self.ordinals[rows],
            self.input_ids[np.repeat(rows, lengths)],
            bounds_of(kept).astype(np.int32),
            int(kept.max(initial=0)),
            self.owned_starts[rows],
            self.owned_ends[rows],
            self.of_windows,
            self.halvings,
        )

    def without(self, ordinals: Collection[int]) -> "TokenBatch":
        """The same batch without the rows of these records."""
        if not ordinals:
            return self
        return self.select(~np.isin(self.ordinals, np.array(sorted(ordinals), dtype=np.uint64)))


@dataclass(frozen=True, slots=True, eq=False)
class BatchPlan:
    """All batches of one shard; `batch` assembles one when it is asked for.

    The first segments of the batches run from long to short, and so do the segments of each batch. The
    windows of a record stand in their order, though not always in one batch; no batch holds windows beside
    whole records, whose vectors are finished while those of windows are still to be put together.

    `window_lengths` holds the tokens of each record that was cut into windows, special tokens left out;
    `max_length` and `window_overlap` say how.
    `fingerprint` is a hex digest over everything that shapes a batch, the tokens included: results stored
    under another fingerprint do not belong to this plan. `too_long` names the records that the rule
    `error` left out, `unknown` those that were never planned, as the model does not know more than half of
    their tokens: so many of so many; `killing` those that could not be tokenised, and why. `num_long` counts
    the records that are longer than a segment may be, whatever became of them; `num_tokens` counts special
    tokens too.
    """

    fingerprint: str
    num_tokens: int
    num_long: int
    too_long: tuple[int, ...]
    toks_per_batch: int
    max_length: int
    window_overlap: int
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    window_lengths: Mapping[int, int]
    _payload: npt.NDArray[np.int32]
    _segments: Segments
    _bounds: Int64s
    _completed: Int64s
    unknown: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    killing: Mapping[int, str] = field(default_factory=dict)

    @property
    def num_batches(self) -> int:
        return len(self._bounds) - 1

    @property
    def fill(self) -> float:
        """Tokens planned over tokens that the budget has room for; above 1 only with oversize segments."""
        return self.num_tokens / (self.num_batches * self.toks_per_batch) if self.num_batches else 0.0

    def ordinals(self, batch_idx: int) -> Ordinals:
        """The record of each row of a batch, uint64[n]."""
        return self._segments.ordinals[self._rows(batch_idx)]

    def num_completed(self, batch_idx: int) -> int:
        """How many records have their last segment in this batch, copies counted. Over all batches: all."""
        return int(self._completed[batch_idx])

    def tokens_of(self, batch_idx: int) -> int:
        """How many tokens a batch has, special ones included."""
        lengths = self._segments.lengths[self._rows(batch_idx)]
        return int(lengths.sum()) + len(lengths) * (len(self.prefix) + len(self.suffix))

    def ids(self) -> Iterator[tuple[int, npt.NDArray[np.int32]]]:
        """The ids of every segment without special tokens, each with its record's ordinal; in plan order."""
        columns = (self._segments.ordinals, self._segments.starts, self._segments.lengths)
        for ordinal, start, length in zip(*(column.tolist() for column in columns), strict=True):
            yield ordinal, self._payload[start : start + length]

    def owned(self, ordinal: int) -> tuple[Int64s, Int64s, Int64s]:
        """Of each window of a record, `owned_starts` and `owned_ends` as in TokenBatch, and its length."""
        special, length = (len(self.prefix), len(self.suffix)), self.window_lengths[ordinal]
        starts, ends = owned_places(length, self.max_length, self.window_overlap, special)
        return starts, ends, np.full(len(starts), self.max_length + sum(special), np.int64)

    def batch(self, batch_idx: int) -> TokenBatch:
        """Assemble one batch. Raises IndexError when the plan has no such batch."""
        segments = self._segments.take(self._rows(batch_idx))
        bounds = bounds_of(segments.lengths + len(self.prefix) + len(self.suffix))
        input_ids = np.empty(bounds[-1], dtype=np.int64)
        input_ids[bounds[:-1, None] + np.arange(len(self.prefix))] = self.prefix
        input_ids[bounds[1:, None] - np.arange(len(self.suffix), 0, -1)] = self.suffix
        source = _ranges(segments.starts, segments.lengths)
        input_ids[_ranges(bounds[:-1] + len(self.prefix), segments.lengths)] = self._payload[source]
        return TokenBatch(
            batch_idx,
            segments.ordinals,
            input_ids,
            bounds.astype(np.int32),
            int(np.diff(bounds).max()),
            segments.owned_starts,
            segments.owned_ends,
            bool(segments.of_windows[0]),
        )

    def _rows(self, batch_idx: int) -> slice:
        if not 0 <= batch_idx < self.num_batches:
            raise IndexError(f"batch {batch_idx}: the plan has {self.num_batches}")
        return slice(int(self._bounds[batch_idx]), int(self._bounds[batch_idx + 1]))


def _ranges(starts: Int64s, lengths: Int64s) -> Int64s:
    """Indices of all ranges [start, start + length), end to end."""
    bounds = bounds_of(lengths)
    return np.arange(bounds[-1]) + np.repeat(starts - bounds[:-1], lengths)
