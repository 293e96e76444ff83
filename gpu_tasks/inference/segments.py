"""Segments: what becomes of a shard's records before batches are filled. Integer arithmetic only.

A segment is a whole record, or one window of a record that is longer than a segment may be.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import numpy.typing as npt

from gpu_tasks.inference.rows import Int64s, Ordinals

LongRule = Literal["window", "truncate", "error"]


@dataclass(frozen=True, slots=True, eq=False)
class Segments:
    """Columns over segments. `starts` are offsets into the payload; `lengths` leave special tokens out.

    The others are those of a TokenBatch.
    """

    ordinals: Ordinals
    starts: Int64s
    lengths: Int64s
    owned_starts: Int64s
    owned_ends: Int64s
    of_windows: npt.NDArray[np.bool_]

    def take(self, order: Int64s | slice) -> "Segments":
        return Segments(*(getattr(self, column.name)[order] for column in fields(self)))


def cut_records(
    ordinals: Ordinals,
    lengths: Int64s,
    *,
    max_length: int,
    long: LongRule,
    overlap: int,
    special: tuple[int, int],
) -> Segments:
    """The segments of records that lie end to end in the payload: windows before the others, and of each the
    longest first. `special` tokens will stand before and behind each segment.
    """
    starts = bounds_of(lengths)[:-1]
    kept = np.minimum(lengths, max_length) if long == "truncate" else lengths
    fits = kept <= max_length
    parts = [_whole(ordinals[fits], starts[fits], kept[fits], sum(special))]
    if long == "window":
        cut = (ordinals[~fits].tolist(), starts[~fits].tolist(), lengths[~fits].tolist())
        parts += [_windows(*record, max_length, overlap, special) for record in zip(*cut, strict=True)]
    found = _concatenate(parts)
    return found.take(np.lexsort((found.starts, found.ordinals, -found.lengths, ~found.of_windows)))


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


def owned_places(length: int, window: int, overlap: int, special: tuple[int, int]) -> tuple[Int64s, Int64s]:
    """What each window of a record owns, counted in its row, special tokens included."""
    starts, bounds = window_starts(length, window, overlap), owned_bounds(length, window, overlap)
    owned_starts, owned_ends = bounds[:-1] - starts + special[0], bounds[1:] - starts + special[0]
    owned_starts[0] = 0
    owned_ends[-1] += special[1]
    return owned_starts, owned_ends


def bounds_of(lengths: npt.NDArray[np.integer]) -> Int64s:
    """Where each of n parts that lie end to end begins and ends: int64[n + 1]."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def _whole(ordinals: Ordinals, starts: Int64s, lengths: Int64s, num_special: int) -> Segments:
    nothing = np.zeros(len(ordinals), np.int64)
    return Segments(ordinals, starts, lengths, nothing, lengths + num_special, nothing.astype(np.bool_))


def _windows(
    ordinal: int, start: int, length: int, window: int, overlap: int, special: tuple[int, int]
) -> Segments:
    starts = window_starts(length, window, overlap)
    count = len(starts)
    return Segments(
        np.full(count, ordinal, np.uint64),
        start + starts,
        np.full(count, window, np.int64),
        *owned_places(length, window, overlap, special),
        np.ones(count, np.bool_),
    )


def _concatenate(parts: Sequence[Segments]) -> Segments:
    columns = (column.name for column in fields(Segments))
    return Segments(*(np.concatenate([getattr(part, name) for part in parts]) for name in columns))
