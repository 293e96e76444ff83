"""How the committed rows of a shard are sorted and cut into portions."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gpu_tasks.shard.publish import Row, by_record, cut_portions

ROW_BYTES = 8
segments = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5)), max_size=30)
"""The ordinal of each segment's record, and how many vectors it has."""


def rows_of(segments: list[tuple[int, int]]) -> list[Row]:
    return [
        (ordinal, np.full((length, 2), place, np.float32)) for place, (ordinal, length) in enumerate(segments)
    ]


@given(segments, st.integers(0, 100))
def test_portions_hold_every_row_once_in_order(segments: list[tuple[int, int]], most_bytes: int) -> None:
    rows = by_record(rows_of(segments))
    assert [id(row) for portion in cut_portions(rows, most_bytes) for row in portion] == [*map(id, rows)]


@given(segments, st.integers(0, 100))
def test_only_a_record_that_is_too_large_alone_makes_a_portion_too_large(
    segments: list[tuple[int, int]], most_bytes: int
) -> None:
    for portion in cut_portions(by_record(rows_of(segments)), most_bytes):
        num_bytes = sum(len(vectors) * ROW_BYTES for _, vectors in portion)
        assert num_bytes <= most_bytes or len({ordinal for ordinal, _ in portion}) == 1


@given(segments, st.integers(0, 100))
def test_no_record_is_parted(segments: list[tuple[int, int]], most_bytes: int) -> None:
    portions = cut_portions(by_record(rows_of(segments)), most_bytes)
    ordinals = [ordinal for portion in portions for ordinal in {ordinal for ordinal, _ in portion}]
    assert len(ordinals) == len(set(ordinals))


@given(segments)
def test_the_windows_of_a_record_stay_in_their_order(segments: list[tuple[int, int]]) -> None:
    rows = rows_of(segments)
    assert [*map(id, by_record(rows))] == [
        id(row) for ordinal in range(10) for row in rows if row[0] == ordinal
    ]
