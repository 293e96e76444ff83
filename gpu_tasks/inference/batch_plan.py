"""The batch plan: which tokens go into which batch, fixed once and for all.

Equal arguments give equal plans, on any machine: everything here is integer arithmetic. Numpy only.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Literal

import numpy as np
import numpy.typing as npt

from gpu_tasks.inference.best_fit import best_fit

LongRule = Literal["window", "truncate", "error"]
Int64s = npt.NDArray[np.int64]
Ordinals = npt.NDArray[np.uint64]

PLANNER_VERSION = 3


@dataclass(frozen=True, slots=True, eq=False)
class TokenBatch:
    """The packed tokens of n rows. A row is a segment: a whole record, or one window of a long one.

    `ordinals` uint64[n] repeats for the windows of one record, in their order; `input_ids` int64[T] holds
    the rows end to end with their special tokens; row i is `input_ids[cu_seqlens[i]:cu_seqlens[i + 1]]`
    (int32[n + 1]); `max_seqlen` counts the tokens of the longest row.

    Row i owns its tokens from `owned_starts[i]` to `owned_ends[i]` (int64[n], counted in the row, special
    tokens too): only these are read out. A whole record owns all of them, the windows of a record each
    another part: see `owned_bounds`; the special tokens before the first and behind the last go with those.
    With `of_windows` all rows are windows, else none is.
    """

    batch_idx: int
    ordinals: Ordinals
    input_ids: Int64s
    cu_seqlens: npt.NDArray[np.int32]
    max_seqlen: int
    owned_starts: Int64s
    owned_ends: Int64s
    of_windows: bool

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
            _bounds(kept).astype(np.int32),
            int(kept.max(initial=0)),
            self.owned_starts[rows],
            self.owned_ends[rows],
            self.of_windows,
        )

    def without(self, ordinals: Collection[int]) -> "TokenBatch":
        """The same batch without the rows of these records."""
        if not ordinals:
            return self
        return self.select(~np.isin(self.ordinals, np.array(sorted(ordinals), dtype=np.uint64)))


@dataclass(frozen=True, slots=True, eq=False)
class _Segments:
    """Columns over segments. `starts` are offsets into the payload; `lengths` leave special tokens out.

    The others are those of a TokenBatch.
    """

    ordinals: Ordinals
    starts: Int64s
    lengths: Int64s
    owned_starts: Int64s
    owned_ends: Int64s
    of_windows: npt.NDArray[np.bool_]

    def take(self, order: Int64s | slice) -> "_Segments":
        return _Segments(*(getattr(self, column.name)[order] for column in fields(self)))


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
    their tokens: so many of so many. `num_tokens` counts special tokens too.
    """

    fingerprint: str
    num_tokens: int
    num_truncated: int
    too_long: tuple[int, ...]
    toks_per_batch: int
    max_length: int
    window_overlap: int
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    window_lengths: Mapping[int, int]
    _payload: npt.NDArray[np.int32]
    _segments: _Segments
    _bounds: Int64s
    _completed: Int64s
    unknown: Mapping[int, tuple[int, int]] = field(default_factory=dict)

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

    @property
    def num_long(self) -> int:
        """How many records are longer than a segment may be, whatever became of them."""
        _, counts = np.unique(self._segments.ordinals, return_counts=True)
        return int((counts > 1).sum()) + self.num_truncated + len(self.too_long)

    def owned(self, ordinal: int) -> tuple[Int64s, Int64s, Int64s]:
        """Of each window of a record, `owned_starts` and `owned_ends` as in TokenBatch, and its length."""
        special, length = (len(self.prefix), len(self.suffix)), self.window_lengths[ordinal]
        starts, ends = _owned_places(length, self.max_length, self.window_overlap, special)
        return starts, ends, np.full(len(starts), self.max_length + sum(special), np.int64)

    def batch(self, batch_idx: int) -> TokenBatch:
        """Assemble one batch. Raises IndexError when the plan has no such batch."""
        segments = self._segments.take(self._rows(batch_idx))
        bounds = _bounds(segments.lengths + len(self.prefix) + len(self.suffix))
        input_ids = np.empty(bounds[-1], dtype=np.int64)
        _put(input_ids, bounds[:-1], self.prefix)
        _put(input_ids, bounds[1:] - len(self.suffix), self.suffix)
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


def plan_batches(
    tokens: Sequence[npt.NDArray[np.integer]],
    ordinals: Sequence[int] | Ordinals,
    *,
    prefix: Sequence[int],
    suffix: Sequence[int],
    toks_per_batch: int,
    max_length: int,
    long: LongRule,
    window_overlap: int,
    copies: Sequence[int] | Int64s | None = None,
) -> BatchPlan:
    """Fill segments to the budget, the longest first, each into the fullest batch that has room for it.

    Windows, of which none is longer, come before whole records, and have batches of their own.

    Args:
        tokens: per record its ids without special tokens.
        ordinals: per record its place in the dataset, without repeats.
        prefix, suffix: the special tokens around every segment.
        toks_per_batch: most tokens of a batch, special tokens included. A longer segment is a batch alone.
        max_length: most tokens of a segment, special tokens left out.
        long: what happens to longer records: `window` cuts them in equally long overlapping windows,
            `truncate` keeps their head, `error` leaves them out and lists them in `too_long`.
        window_overlap: least number of tokens that neighbouring windows share.
        copies: per record how many it stands for in `num_completed`; by default one. Shapes no batch.

    Raises:
        ValueError: an argument is out of range, or an ordinal is given twice.
    """
    records = np.asarray(ordinals, dtype=np.uint64)
    _check(len(tokens), records, toks_per_batch, max_length, long, window_overlap)
    payload = np.concatenate([np.empty(0, np.int32), *tokens], dtype=np.int32, casting="same_kind")
    lengths = np.fromiter(map(len, tokens), dtype=np.int64, count=len(tokens))
    too_long = lengths > max_length

    special = len(prefix), len(suffix)
    kept = np.minimum(lengths, max_length) if long == "truncate" else lengths
    whole = _whole(records, lengths, kept, sum(special))
    segments = _cut(whole, max_length, long, window_overlap, special)
    order = (segments.starts, segments.ordinals, -segments.lengths, ~segments.of_windows)
    segments = segments.take(np.lexsort(order))
    costs = segments.lengths + sum(special)
    batches = _fill(costs, int(segments.of_windows.sum()), toks_per_batch)
    # Stable: within a batch, and of equal length, all stay as they were sorted.
    segments = segments.take(np.argsort(batches, kind="stable"))
    bounds = _bounds(np.bincount(batches))
    settings = [PLANNER_VERSION, [*prefix], [*suffix], toks_per_batch, max_length, long, window_overlap]
    return BatchPlan(
        fingerprint=_fingerprint(settings, (records, lengths, payload)),
        num_tokens=int(costs.sum()),
        num_truncated=int(too_long.sum()) if long == "truncate" else 0,
        too_long=tuple(records[too_long].tolist()) if long == "error" else (),
        toks_per_batch=toks_per_batch,
        max_length=max_length,
        window_overlap=window_overlap,
        prefix=tuple(prefix),
        suffix=tuple(suffix),
        window_lengths=_lengths_of(records, lengths, too_long) if long == "window" else {},
        _payload=payload,
        _segments=segments,
        _bounds=bounds,
        _completed=_completed(segments.ordinals, bounds, _copies_of(segments.ordinals, records, copies)),
    )


def window_starts(length: int, window: int, overlap: int) -> Int64s:
    """Starts of the fewest windows that cover `length` tokens and overlap by at least `overlap`.

    All windows have exactly `window` tokens. Starts are equally spaced, rounded half up; the last window
    ends at the record's end.
    """
    gaps = -(-(length - window) // (window - overlap))
    return (2 * np.arange(gaps + 1, dtype=np.int64) * (length - window) + gaps) // (2 * gaps)


def owned_bounds(length: int, window: int, overlap: int) -> Int64s:
    """Where the tokens that window i owns begin, [i], and end, [i + 1]: together all of the record.

    A token belongs to the window in which it lies deepest, that is, whose nearer edge is farther away. As
    all windows are equally long, that is the one whose middle is nearest. Ties go to the earlier window.
    """
    starts = window_starts(length, window, overlap)
    between = (starts[:-1] + starts[1:] + window + 1) // 2
    return np.concatenate([np.zeros(1, np.int64), between, np.array([length])])


def _check(
    num_records: int, ordinals: Ordinals, budget: int, max_length: int, long: str, overlap: int
) -> None:
    if ordinals.shape != (num_records,):
        raise ValueError(f"{num_records} records but {ordinals.size} ordinals")
    if len(np.unique(ordinals)) != num_records:
        raise ValueError("an ordinal is given twice")
    if budget < 1 or max_length < 1:
        raise ValueError(f"toks_per_batch={budget} and max_length={max_length} must be at least 1")
    if long not in ("window", "truncate", "error"):
        raise ValueError(f"long={long!r}: not window, truncate or error")
    if long == "window" and not 0 <= overlap < max_length:
        raise ValueError(f"window_overlap={overlap} must lie between 0 and max_length={max_length} - 1")


def _cut(
    records: _Segments, max_length: int, long: LongRule, overlap: int, special: tuple[int, int]
) -> _Segments:
    """The segments of records that have the lengths that the rule leaves them."""
    too_long = records.lengths > max_length
    if not too_long.any():
        return records
    kept = records.take(np.flatnonzero(~too_long))
    if long == "error":
        return kept
    cut = [_windows(records, int(row), max_length, overlap, special) for row in np.flatnonzero(too_long)]
    return _concatenate([kept, *cut])


def _fill(costs: Int64s, num_windows: int, budget: int) -> Int64s:
    """The batch of each segment; the first `num_windows` are windows, and share none with the others."""
    windows, whole = best_fit(costs[:num_windows], budget), best_fit(costs[num_windows:], budget)
    return np.concatenate([windows, whole + windows.max(initial=-1) + 1])


def _lengths_of(records: Ordinals, lengths: Int64s, chosen: npt.NDArray[np.bool_]) -> dict[int, int]:
    return dict(zip(records[chosen].tolist(), lengths[chosen].tolist(), strict=True))


def _whole(records: Ordinals, lengths: Int64s, kept: Int64s, num_special: int) -> _Segments:
    """Every record as one segment, of which so many tokens are kept."""
    count = len(records)
    nothing, ends = np.zeros(count, np.int64), kept + num_special
    return _Segments(records, _bounds(lengths)[:-1], kept, nothing, ends, np.zeros(count, np.bool_))


def _windows(records: _Segments, row: int, window: int, overlap: int, special: tuple[int, int]) -> _Segments:
    length = int(records.lengths[row])
    starts = window_starts(length, window, overlap)
    owned_starts, owned_ends = _owned_places(length, window, overlap, special)
    count = len(starts)
    return _Segments(
        np.full(count, records.ordinals[row], dtype=np.uint64),
        records.starts[row] + starts,
        np.full(count, window, dtype=np.int64),
        owned_starts,
        owned_ends,
        np.ones(count, np.bool_),
    )


def _owned_places(length: int, window: int, overlap: int, special: tuple[int, int]) -> tuple[Int64s, Int64s]:
    """What each window of a record owns, counted in its row, special tokens included."""
    starts, bounds = window_starts(length, window, overlap), owned_bounds(length, window, overlap)
    owned_starts, owned_ends = bounds[:-1] - starts + special[0], bounds[1:] - starts + special[0]
    owned_starts[0] = 0
    owned_ends[-1] += special[1]
    return owned_starts, owned_ends


def _concatenate(parts: Sequence[_Segments]) -> _Segments:
    columns = (column.name for column in fields(_Segments))
    return _Segments(*(np.concatenate([getattr(part, name) for part in parts]) for name in columns))


def _copies_of(segments: Ordinals, records: Ordinals, copies: Sequence[int] | Int64s | None) -> Int64s:
    """Per segment, how many records its record stands for."""
    if copies is None:
        return np.ones(len(segments), dtype=np.int64)
    order = np.argsort(records)
    return np.asarray(copies, dtype=np.int64)[order][np.searchsorted(records[order], segments)]


def _completed(ordinals: Ordinals, bounds: Int64s, copies: Int64s) -> Int64s:
    """Per batch, the records of which it holds the last segment in the order of the plan."""
    _, from_the_end = np.unique(ordinals[::-1], return_index=True)
    last = len(ordinals) - 1 - from_the_end
    completed = np.zeros(len(ordinals), dtype=np.int64)
    completed[last] = copies[last]
    return np.diff(_bounds(completed)[bounds])


def _bounds(lengths: npt.NDArray[np.integer]) -> Int64s:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def _ranges(starts: Int64s, lengths: Int64s) -> Int64s:
    """Indices of all ranges [start, start + length), end to end."""
    bounds = _bounds(lengths)
    return np.arange(bounds[-1]) + np.repeat(starts - bounds[:-1], lengths)


def _put(input_ids: Int64s, starts: Int64s, values: tuple[int, ...]) -> None:
    for offset, value in enumerate(values):
        input_ids[starts + offset] = value


def _fingerprint(settings: object, columns: Iterable[npt.NDArray[np.integer]]) -> str:
    digest = hashlib.blake2b(json.dumps(settings).encode(), digest_size=16)
    for column in columns:
        digest.update(column.astype(column.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()
