"""Which segment goes into which batch, so that few batches hold all of them. Integer arithmetic only."""

from bisect import bisect_left, insort
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]


def best_fit(costs: Int64s, budget: int) -> Int64s:
    """The batch of each segment, for costs that descend: best-fit decreasing bin packing.

    At most 11/9 of the fewest batches possible, and a few more (Johnson et al. 1974,
    https://doi.org/10.1137/0203025).
    """
    num_batches = 0
    least = int(costs.min(initial=0))
    room: list[tuple[int, int]] = []  # (tokens, batch), ascending, where something still fits
    taken: list[tuple[int, int]] = []  # (batch, rows), in the order of the segments
    for cost, count in _equal_costs(costs):
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


def _equal_costs(costs: Int64s) -> Iterator[tuple[int, int]]:
    """Each cost, descending, and how many segments have it."""
    values, counts = np.unique(costs, return_counts=True)
    return zip(values[::-1].tolist(), counts[::-1].tolist(), strict=True)
