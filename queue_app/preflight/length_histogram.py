"""Lengths as bars: round bounds that suit their range, one row each, as wide as the terminal."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

ROWS_MOST = 16
STEPS = ((1.0, 1.5, 2.0, 3.0, 5.0, 7.0), (1.0, 2.0, 5.0), (1.0, 3.0), (1.0,))
"""Bounds within a power of ten, from fine to coarse."""
NARROW = 4
"""Longest over shortest, up to which equal steps show more than growing ones."""
EIGHTHS = " ▏▎▍▌▋▊▉"

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Bin:
    """How many lengths there are from `least` to `most`, both included."""

    least: int
    most: int
    count: int


def histogram(lengths: Int64s) -> tuple[Bin, ...]:
    """At most 16 bins from the shortest to the longest; none for no lengths."""
    if not len(lengths):
        return ()
    bounds = choose_bounds(int(lengths.min()), int(lengths.max()))
    counts = np.bincount(np.searchsorted(bounds, lengths, side="right") - 1, minlength=len(bounds) - 1)
    return tuple(
        Bin(first, after - 1, count)
        for (first, after), count in zip(pairwise(bounds), counts.tolist(), strict=True)
    )


def choose_bounds(least: int, most: int) -> list[int]:
    """Ascending round numbers, the first at most `least`, the last above `most`."""
    if most < NARROW * least or most < ROWS_MOST:
        return _equal(least, most)
    return next(found for steps in STEPS if len(found := _growing(least, most, steps)) <= ROWS_MOST + 1)


def _equal(least: int, most: int) -> list[int]:
    step = next(
        step
        for power in range(19)
        for step in (10**power, 2 * 10**power, 5 * 10**power)
        if most // step - least // step < ROWS_MOST
    )
    return list(range(least // step * step, (most // step + 2) * step, step))


def _growing(least: int, most: int, steps: Sequence[float]) -> list[int]:
    """The numbers step x 10^n from the last at or below `least` to the first above `most`."""
    numbers = sorted({int(step * 10**power) for power in range(19) for step in steps})
    first = max(place for place, number in enumerate(numbers) if number <= least)
    last = min(place for place, number in enumerate(numbers) if number > most)
    return numbers[first : last + 1]


def bars(bins: Sequence[Bin], *, width: int, unicode: bool = True) -> list[str]:
    """A row for each bin, `width` columns at most: its bounds, a bar, its count."""
    if not bins:
        return []
    bounds = [_bounds(each, len(f"{bins[-1].most:,}")) for each in bins]
    counts = [f"{each.count:,}" for each in bins]
    room = max(1, width - len(bounds[0]) - max(map(len, counts)) - 2)
    largest = max(each.count for each in bins)
    return [
        " ".join(filter(None, (bound, _bar(each.count / largest * room, unicode), count)))
        for each, bound, count in zip(bins, bounds, counts, strict=True)
    ]


def _bounds(each: Bin, digits: int) -> str:
    if each.least == each.most:
        return f"{each.least:>{2 * digits + 3},}"
    return f"{each.least:>{digits},} - {each.most:>{digits},}"


def _bar(columns: float, unicode: bool) -> str:
    """At least a sliver of what is there at all."""
    if not columns:
        return ""
    if not unicode:
        return "#" * max(1, round(columns))
    whole, eighths = divmod(max(1, round(columns * 8)), 8)
    return "█" * whole + EIGHTHS[eighths].strip()
