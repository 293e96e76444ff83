"""How the windows of a long record become one vector again."""

from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_tasks.inference.windows import combine_windows, join_windows
from queue_app.model.spec import Pool

DIM = 6

ordinals_of_rows = st.lists(st.integers(0, 9), max_size=30)
pools = st.sampled_from(get_args(Pool))


def vectors_for(ordinals: list[int], dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(len(ordinals)).standard_normal((len(ordinals), DIM)).astype(dtype)


def combined(
    ordinals: list[int], vectors: np.ndarray, pool: Pool, *, normalize: bool = False
) -> dict[int, np.ndarray]:
    def pooled(ordinal: int) -> tuple[np.ndarray, np.ndarray]:
        return owned(ordinals.count(ordinal))

    unique, rows = combine_windows(
        np.array(ordinals, np.uint64),
        [vector[None] for vector in vectors],
        (pool,),
        pooled,
        unit if normalize else as_it_is,
        nothing=vectors[:0],
    )
    return dict(zip(unique.tolist(), rows, strict=True))


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def as_it_is(vectors: np.ndarray) -> np.ndarray:
    return vectors


def owned(num_windows: int) -> tuple[np.ndarray, np.ndarray]:
    """Each window pools the places from its number on; the second one token less than the others."""
    starts = np.arange(num_windows)
    return starts, starts + np.array([5 - (number == 1) for number in range(num_windows)], np.int64)


def plainly_combined(windows: np.ndarray, pool: Pool) -> np.ndarray:
    """A window's row stands for each of its tokens: whatever their vectors are, they add up to the same."""
    starts, ends = owned(len(windows))
    counts = ends - starts
    tokens = np.repeat(windows, counts, axis=0)
    places = np.concatenate([np.arange(first, end) + 1 for first, end in zip(starts, ends, strict=True)])
    sums = (
        windows * np.sqrt(counts)[:, None]
    )  # of the tokens, where rows were divided by the root of their count
    by_pool = {
        "last": windows[-1],
        "max": windows.max(axis=0),
        "cls": windows.mean(axis=0),
        "mean": tokens.mean(axis=0),
        "mean_sqrt_len": sums.sum(axis=0) / np.sqrt(len(tokens)),
        "weighted_mean": (tokens * places[:, None]).sum(axis=0) / places.sum(),
    }
    return np.asarray(by_pool[pool])


@given(ordinals_of_rows, pools)
def test_every_record_gets_what_a_plain_loop_makes_of_its_windows(ordinals: list[int], pool: Pool) -> None:
    vectors = vectors_for(ordinals)
    rows = combined(ordinals, vectors, pool)
    assert rows.keys() == set(ordinals)
    for ordinal, row in rows.items():
        windows = vectors[np.array(ordinals) == ordinal].astype(np.float64)
        np.testing.assert_allclose(row, plainly_combined(windows, pool), rtol=1e-5, atol=1e-6)


@given(ordinals_of_rows)
def test_the_ordinals_come_back_ascending_and_once(ordinals: list[int]) -> None:
    assert [*combined(ordinals, vectors_for(ordinals), "mean")] == sorted(set(ordinals))


@given(st.permutations(range(8)), pools, st.booleans())
def test_a_record_with_one_row_keeps_its_bytes(ordinals: list[int], pool: Pool, normalize: bool) -> None:
    vectors = vectors_for(ordinals)
    rows = combined(ordinals, vectors, pool, normalize=normalize)
    assert [rows[ordinal].tobytes() for ordinal in ordinals] == [vector.tobytes() for vector in vectors]


def test_normalize_brings_only_records_of_several_windows_to_unit_length() -> None:
    rows = combined([4, 2, 4], np.full((3, DIM), 3, np.float32), "mean", normalize=True)
    assert np.linalg.norm(rows[4]) == pytest.approx(1)
    assert rows[2].tolist() == [3] * DIM


def test_windows_that_cancel_out_stay_zero_when_normalized() -> None:
    rows = combined([0, 0], np.array([[1] * DIM, [-1] * DIM], np.float32), "cls", normalize=True)
    assert rows[0].tolist() == [0] * DIM


def test_float16_windows_are_summed_in_float64_and_stay_float16() -> None:
    """5 x 60,000 overflows float16; their mean does not."""
    rows = combined([0, 0], np.full((2, DIM), 60_000, np.float16), "mean")
    assert rows[0].dtype == np.float16
    assert rows[0].tolist() == [60_000] * DIM


@pytest.mark.parametrize("pool", get_args(Pool))
def test_the_length_of_float16_windows_is_computed_in_float64(pool: Pool) -> None:
    """The square of 300 overflows float16."""
    rows = combined([0, 0], np.full((2, DIM), 300, np.float16), pool, normalize=True)
    assert np.linalg.norm(rows[0].astype(np.float32)) == pytest.approx(1, abs=1e-3)


def test_no_rows_make_no_records() -> None:
    nothing = np.empty((0, DIM), np.float16)
    unique, vectors = combine_windows(np.empty(0, np.uint64), [], ("mean",), owned, as_it_is, nothing=nothing)
    assert (unique.shape, vectors.shape, vectors.dtype) == ((0,), (0, DIM), np.float16)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), max_size=12))
def test_what_the_windows_own_is_put_end_to_end_byte_by_byte(segments: list[tuple[int, int]]) -> None:
    """A token's vector is that of the window that owns it, and of no other."""
    rng = np.random.default_rng(len(segments))
    rows: list[Any] = [rng.standard_normal((length, DIM)).astype(np.float16) for _, length in segments]
    ordinals = np.array([ordinal for ordinal, _ in segments], np.uint64)
    unique, joined, offsets = join_windows(ordinals, rows, nothing=np.empty((0, DIM), np.float16))
    assert unique.tolist() == sorted({ordinal for ordinal, _ in segments})
    for place, ordinal in enumerate(unique.tolist()):
        own = [row for row, (other, _) in zip(rows, segments, strict=True) if other == ordinal]
        expected = np.concatenate(own)
        assert joined[offsets[place] : offsets[place + 1]].tobytes() == expected.tobytes()
    assert len(joined) == offsets[-1]
