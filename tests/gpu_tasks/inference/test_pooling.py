"""Pooling against a loop that could not be plainer."""

from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpu_tasks.inference.batch_plan import TokenBatch
from gpu_tasks.inference.pooling import RowTokens, pool_rows, pooling_bounds
from gpu_tasks.inference.readout import Left
from queue_app.model.spec import Pool

DIM = 5

row_lengths = st.lists(st.integers(1, 20), min_size=1, max_size=12)
pools = st.sampled_from(get_args(Pool))
HALVES = [torch.float16, torch.bfloat16]


def cu_seqlens(lengths: list[int]) -> np.ndarray:
    return np.cumsum([0, *lengths], dtype=np.int32)


def hidden_states(num_tokens: int) -> torch.Tensor:
    return torch.randn(num_tokens, DIM, generator=torch.Generator().manual_seed(num_tokens))


def batch_of(lengths: list[int], owned: list[tuple[int, int]] | None = None) -> TokenBatch:
    """Rows that own all of their tokens, or windows that own these."""
    starts, ends = np.array(owned or [(0, length) for length in lengths]).T
    return TokenBatch(
        0,
        np.arange(len(lengths), dtype=np.uint64),
        np.zeros(sum(lengths), np.int64),
        cu_seqlens(lengths),
        max(lengths),
        starts,
        ends,
        owned is not None,
    )


def pooled(
    hidden: torch.Tensor,
    lengths: list[int],
    pool: Pool,
    special: tuple[int, int],
    owned: list[tuple[int, int]] | None = None,
) -> np.ndarray:
    num_prefix, num_suffix = special
    left = Left(num_prefix, num_suffix, num_lead=num_prefix, num_prompt=0)
    bounds, firsts = map(torch.from_numpy, pooling_bounds(batch_of(lengths, owned), left))
    return pool_rows(hidden, RowTokens(bounds, firsts), pool).numpy()


def plainly_pooled(
    hidden: np.ndarray, lengths: list[int], pool: Pool, special: tuple[int, int]
) -> np.ndarray:
    vectors = []
    for start, length in zip(cu_seqlens(lengths), lengths, strict=False):
        tokens = hidden[start : start + length]
        payload = tokens[special[0] : length - special[1]]
        places = special[0] + 1 + np.arange(len(payload))  # in the row, from 1
        vectors.append(
            {
                "mean": payload.mean(axis=0),
                "max": payload.max(axis=0),
                "cls": tokens[0],
                "last": payload[-1],
                "mean_sqrt_len": payload.sum(axis=0) / len(payload) ** 0.5,
                "weighted_mean": (payload * places[:, None]).sum(axis=0) / places.sum(),
            }[pool]
        )
    return np.array(vectors)


@given(row_lengths, pools, st.sampled_from([(0, 0), (1, 1), (1, 0), (2, 1)]))
def test_every_pool_agrees_with_a_plain_loop(
    lengths: list[int], pool: Pool, special: tuple[int, int]
) -> None:
    lengths = [length + sum(special) for length in lengths]
    hidden = hidden_states(sum(lengths))
    expected = plainly_pooled(hidden.numpy().astype(np.float64), lengths, pool, special)
    np.testing.assert_allclose(pooled(hidden, lengths, pool, special), expected, rtol=1e-5, atol=1e-6)


def test_a_window_pools_what_it_owns_and_special_tokens_go_with_the_ends_of_the_record() -> None:
    """Three windows of six tokens, the first and the last of them special."""
    hidden, owned = hidden_states(18), [(0, 4), (2, 4), (3, 6)]
    rows = np.split(hidden.numpy(), 3)
    for special, expected in [
        ((1, 1), [rows[0][1:4], rows[1][2:4], rows[2][3:5]]),
        ((0, 0), [rows[0][0:4], rows[1][2:4], rows[2][3:6]]),
    ]:
        by_pool: dict[Pool, Any] = {"mean": np.mean, "max": np.max}
        for pool, of in by_pool.items():
            found = pooled(hidden, [6, 6, 6], pool, special, owned)
            np.testing.assert_allclose(found, [of(part, axis=0) for part in expected], rtol=1e-5, atol=1e-6)
        last = pooled(hidden, [6, 6, 6], "last", special, owned)
        np.testing.assert_array_equal(last, [part[-1] for part in expected])


@given(row_lengths, pools)
def test_a_row_does_not_depend_on_its_neighbours(lengths: list[int], pool: Pool) -> None:
    hidden = hidden_states(sum(lengths))
    together = pooled(hidden, lengths, pool, (0, 0))
    for row, (start, length) in enumerate(zip(cu_seqlens(lengths), lengths, strict=False)):
        alone = pooled(hidden[start : start + length].contiguous(), [length], pool, (0, 0))
        assert alone.tobytes() == together[row].tobytes()


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_half_precision_is_summed_in_more(dtype: torch.dtype) -> None:
    """4,096 ones and one: in float16 the sum stops at 2,048, in bfloat16 at 256."""
    hidden = torch.ones(4097, DIM, dtype=dtype)
    assert pooled(hidden, [4097], "mean", (0, 0)).tolist() == [[1.0] * DIM]


def test_the_mean_of_a_very_long_row_is_as_exact_as_its_tokens() -> None:
    """Summed in float32, one token after the other, it is 2e-6 away."""
    hidden = hidden_states(35_000) + 1
    mean = hidden.double().mean(dim=0).numpy()
    np.testing.assert_allclose(pooled(hidden, [35_000], "mean", (0, 0))[0], mean, rtol=1e-7)


@pytest.mark.parametrize("pool", get_args(Pool))
@pytest.mark.parametrize("dtype", [torch.float32, *HALVES], ids=str)
def test_vectors_are_float32_and_contiguous(pool: Pool, dtype: torch.dtype) -> None:
    vectors = pooled(hidden_states(7).to(dtype), [3, 4], pool, (1, 1))
    assert vectors.dtype == np.float32
    assert vectors.flags.c_contiguous


@pytest.mark.parametrize("pool", ["mean", "max"])
def test_a_row_without_a_token_to_pool_is_not_finite(pool: Pool) -> None:
    vectors = pooled(hidden_states(6), [2, 4], pool, (1, 1))
    assert not np.isfinite(vectors[0]).any()
    assert np.isfinite(vectors[1]).all()


@pytest.mark.parametrize("pool", get_args(Pool))
def test_a_nan_stays_in_its_own_row(pool: Pool) -> None:
    hidden = hidden_states(9)
    hidden[3:6] = torch.nan
    assert np.isfinite(pooled(hidden, [3, 3, 3], pool, (0, 0))).all(axis=1).tolist() == [True, False, True]
