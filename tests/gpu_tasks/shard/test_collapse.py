"""When different sequences share one vector, and when that means nothing."""

import numpy as np
import pytest

from gpu_tasks.shard.collapse import SAMPLE, sharing_one_vector, spread

CHANCE = np.random.default_rng(3)


def vectors(num_alike: int, num_others: int, dim: int = 8) -> np.ndarray:
    alike = np.broadcast_to(CHANCE.normal(size=dim), (num_alike, dim))
    return np.concatenate([alike, CHANCE.normal(size=(num_others, dim))]).astype(np.float32)


@pytest.mark.parametrize(
    ("num_alike", "num_others", "is_told"),
    [
        (5, 3, True), (8, 0, True), (4, 4, False), (0, 20, False), (7, 0, True), (6, 1, False),
        (3, 0, True), (2, 0, False), (1, 0, False), (0, 0, False),
    ],
)  # fmt: skip
def test_more_than_half_of_eight_or_all_of_three_are_told(
    num_alike: int, num_others: int, is_told: bool
) -> None:
    found = sharing_one_vector(vectors(num_alike, num_others), None)
    assert found == ([*range(num_alike)] if is_told else [])


def test_means_of_one_vector_over_other_lengths_are_one_vector() -> None:
    state = CHANCE.normal(size=64).astype(np.float32)
    rows = [np.repeat(state[None], length, axis=0).mean(axis=0) for length in range(3, 200)]
    assert len({row.tobytes() for row in rows}) > 1
    assert len(sharing_one_vector(np.stack(rows), None)) == len(rows)


def test_vectors_that_differ_in_a_small_number_beside_a_huge_one_are_different() -> None:
    rows = vectors(20, 0)
    rows[:, 0] = 1e6
    rows[:, 1] = 1 + CHANCE.normal(size=20) * 1e-3
    assert sharing_one_vector(rows, None) == []


def test_rows_of_every_token_count_where_all_their_tokens_have_one_vector() -> None:
    lengths = np.arange(2, 12)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.uint64)
    one = vectors(int(lengths.sum()), 0)
    assert sharing_one_vector(one, offsets) == [*range(10)]
    begins_alike = CHANCE.normal(size=one.shape).astype(np.float32)
    begins_alike[offsets[:-1].astype(int)] = one[0]
    assert sharing_one_vector(begins_alike, offsets) == []


@pytest.mark.parametrize("number", [0, 1, SAMPLE, SAMPLE + 1, 16_384])
def test_the_compared_records_are_spread_over_the_shard(number: int) -> None:
    chosen = spread(range(number))
    assert min(number, SAMPLE // 2) <= len(chosen) <= SAMPLE
    assert not chosen or (chosen[0], chosen[-1] >= 0.99 * (number - 1)) == (0, True)
