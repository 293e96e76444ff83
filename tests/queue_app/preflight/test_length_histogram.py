"""The promises of a histogram: every length is counted once, between round bounds, within the width."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_app.preflight.length_histogram import ROWS_MOST, Bin, bars, choose_bounds, histogram

some_lengths = st.lists(st.integers(1, 10**8), min_size=1, max_size=200)


@given(some_lengths)
def test_every_length_is_counted_once_and_in_its_bin(lengths: list[int]) -> None:
    bins = histogram(np.array(lengths))
    assert [each.count for each in bins] == [
        sum(each.least <= length <= each.most for length in lengths) for each in bins
    ]
    assert sum(each.count for each in bins) == len(lengths)


@given(some_lengths)
def test_bins_are_few_lie_end_to_end_and_none_is_wasted_at_the_ends(lengths: list[int]) -> None:
    bins = histogram(np.array(lengths))
    assert len(bins) <= ROWS_MOST
    assert all(before.most + 1 == after.least for before, after in pairwise(bins))
    assert bins[0].count
    assert bins[-1].count


@pytest.mark.parametrize(
    ("least", "most", "bounds"),
    [
        (50, 50, [50, 51]),
        (100, 131, [100, 102, 104, 106, 108, 110, 112, 114, 116, 118, 120, 122, 124, 126, 128, 130, 132]),
        (21, 1438, [20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1000, 1500]),
        (2, 36_000, [2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000]),
    ],
)
def test_bounds_are_round_and_suit_the_range(least: int, most: int, bounds: list[int]) -> None:
    assert choose_bounds(least, most) == bounds


@given(some_lengths, st.integers(40, 120))
def test_rows_stay_within_the_width(lengths: list[int], width: int) -> None:
    assert all(len(row) <= width for row in bars(histogram(np.array(lengths)), width=width))


def test_one_among_a_million_still_shows_and_none_shows_nothing() -> None:
    rows = bars([Bin(1, 9, 1_000_000), Bin(10, 19, 1), Bin(20, 29, 0)], width=40)
    assert [row.split()[3:-1] for row in rows[1:]] == [["▏"], []]
    assert len(rows[0]) == 40


def test_without_unicode_bars_are_of_signs() -> None:
    rows = bars([Bin(1, 1, 4), Bin(2, 2, 2)], width=16, unicode=False)
    assert all(row.isascii() for row in rows)
    assert rows[0].count("#") == 2 * rows[1].count("#")


def test_no_lengths_have_no_rows() -> None:
    assert bars(histogram(np.empty(0, np.int64)), width=40) == []
