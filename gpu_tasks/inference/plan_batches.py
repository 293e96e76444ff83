"""Plans a shard's batches. Equal arguments give equal plans on any machine: integer arithmetic only."""

import hashlib
import json
from bisect import bisect_left, insort
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gpu_tasks.inference.batch_plan import BatchPlan
from gpu_tasks.inference.rows import Int64s, Ordinals
from gpu_tasks.inference.segments import LongRule, Segments, bounds_of, cut_records

PLANNER_VERSION = 3


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
    special = len(prefix), len(suffix)
    segments = cut_records(
        records, lengths, max_length=max_length, long=long, overlap=window_overlap, special=special
    )
    segments, bounds = _into_batches(segments, sum(special), toks_per_batch)
    too_long = lengths > max_length
    long_lengths = dict(zip(records[too_long].tolist(), lengths[too_long].tolist(), strict=True))
    settings = [PLANNER_VERSION, [*prefix], [*suffix], toks_per_batch, max_length, long, window_overlap]
    return BatchPlan(
        fingerprint=_fingerprint(settings, records, lengths, payload),
        num_tokens=int(segments.lengths.sum()) + sum(special) * len(segments.lengths),
        num_long=len(long_lengths),
        too_long=tuple(long_lengths) if long == "error" else (),
        toks_per_batch=toks_per_batch,
        max_length=max_length,
        window_overlap=window_overlap,
        prefix=tuple(prefix),
        suffix=tuple(suffix),
        window_lengths=long_lengths if long == "window" else {},
        _payload=payload,
        _segments=segments,
        _bounds=bounds,
        _completed=_completed(segments.ordinals, bounds, _copies_of(segments.ordinals, records, copies)),
    )


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


def _into_batches(segments: Segments, num_special: int, budget: int) -> tuple[Segments, Int64s]:
    """The segments batch by batch, and where each batch begins and ends."""
    costs, num_windows = segments.lengths + num_special, int(segments.of_windows.sum())
    windows, whole = _best_fit(costs[:num_windows], budget), _best_fit(costs[num_windows:], budget)
    batches = np.concatenate([windows, whole + windows.max(initial=-1) + 1])
    # Stable: within a batch, and of equal length, all stay as they were sorted.
    return segments.take(np.argsort(batches, kind="stable")), bounds_of(np.bincount(batches))


def _best_fit(costs: Int64s, budget: int) -> Int64s:
    """The batch of each segment, for costs that descend: best-fit decreasing bin packing.

    At most 11/9 of the fewest batches possible, and a few more (Johnson et al. 1974,
    https://doi.org/10.1137/0203025).
    """
    num_batches = 0
    least = int(costs.min(initial=0))
    room: list[tuple[int, int]] = []  # (tokens, batch), ascending, where something still fits
    taken: list[tuple[int, int]] = []  # (batch, rows), in the order of the segments
    values, counts = np.unique(costs, return_counts=True)
    for cost, count in zip(values[::-1].tolist(), counts[::-1].tolist(), strict=True):
        begun, waiting = len(taken), count
        while waiting:
            place = bisect_left(room, (cost, -1))
            if place < len(room):
                left, batch = room.pop(place)
            else:
                left, batch = budget, num_batches
                num_batches += 1
            # What was the fullest batch with room stays so until it has none for another of this cost.
            rows = min(waiting, max(left // max(cost, 1), 1))
            taken.append((batch, rows))
            waiting -= rows
            if left - rows * cost >= least:
                insort(room, (left - rows * cost, batch))
        # Equally long segments are interchangeable: in order, so that the windows of a record are.
        taken[begun:] = sorted(taken[begun:])
    batches, rows_of = np.array(taken, dtype=np.int64).reshape(-1, 2).T
    return np.repeat(batches, rows_of)


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
    return np.diff(bounds_of(completed)[bounds])


def _fingerprint(settings: object, *columns: npt.NDArray[np.integer]) -> str:
    digest = hashlib.blake2b(json.dumps(settings).encode(), digest_size=16)
    for column in columns:
        digest.update(column.astype(column.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()
