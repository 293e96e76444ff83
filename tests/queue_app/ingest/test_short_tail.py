"""How long a job takes beside the best split of its work, dealt out to workers who come for the next shard.

Simulated, with workers that do nothing but compute: a shard takes its cost, divided by the worker's speed.
"""

import heapq
from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest

from queue_app.ingest.cut_shards import (
    RECORDS_PER_SHARD,
    SHARDS_LEAST,
    SHARDS_WANTED,
    cut,
    default_num_shards,
    tapering_sizes,
)

COST_MOST = 4_000_000
BOUND = 1.10
SLOW = 0.1
"""Beside the others' speed of 1."""
MANY = range(1, 33)
FEW = range(1, 9)


@cache
def record_costs(num_records: int) -> np.ndarray:
    """Of proteins: a few are ten times as long as most."""
    return np.random.default_rng(1).lognormal(5.6, 0.7, num_records).astype(np.int64) + 9


def shards_of(num_records: int, num_shards: int | None = None) -> list[int]:
    """What each shard of a job costs."""
    costs = record_costs(num_records)
    num_shards = num_shards or default_num_shards(costs, COST_MOST)
    return np.add.reduceat(costs, cut(costs, tapering_sizes(num_shards, num_records))[:-1]).tolist()


def seconds(shards: Sequence[int], speeds: Sequence[float]) -> float:
    """Until the last shard is done: whoever is idle takes the next one.

    A worker that is known to be slow takes the last one, which is the smallest, and begins with it; but it
    begins none that the others would have done before it.
    """
    waiting, end = [*shards], 0.0
    idle = [(0.0, worker) for worker in range(len(speeds))]
    while waiting:
        now, worker = heapq.heappop(idle)
        speed = speeds[worker]
        is_slow = speed <= SLOW
        took = waiting[-1 if is_slow else 0] / speed
        if is_slow and len(speeds) > 1 and took > sum(waiting) / (sum(speeds) - speed):
            continue  # it rests
        waiting.pop(-1 if is_slow else 0)
        end = max(end, now + took)
        heapq.heappush(idle, (now + took, worker))
    return end


def beside_the_best_split(shards: Sequence[int], speeds: Sequence[float]) -> float:
    """1 where all workers are at work to the end."""
    return seconds(shards, speeds) * sum(speeds) / sum(shards)


def uneven(num_workers: int) -> list[float]:
    """The fastest twice as fast as the slowest."""
    return np.random.default_rng(num_workers).uniform(0.5, 1, num_workers).tolist()


def with_a_slow_one(num_workers: int) -> list[float]:
    return [1.0] * num_workers + [SLOW]


def alike(num_workers: int) -> list[float]:
    return [1.0] * num_workers


KINDS = [alike, uneven, with_a_slow_one]


@pytest.mark.parametrize("workers", KINDS)
def test_up_to_32_workers_end_a_large_job_together(workers) -> None:  # type: ignore[no-untyped-def]
    shards = shards_of(500_000)
    assert len(shards) == SHARDS_WANTED
    assert max(beside_the_best_split(shards, workers(number)) for number in MANY) <= BOUND


@pytest.mark.parametrize("workers", KINDS)
def test_a_few_workers_end_a_small_job_together(workers) -> None:  # type: ignore[no-untyped-def]
    shards = shards_of(4_000)
    assert len(shards) == SHARDS_LEAST
    assert max(beside_the_best_split(shards, workers(number)) for number in FEW) <= BOUND


def test_five_shards_on_four_workers_leave_nobody_waiting() -> None:
    """Cut into equal ones, it would be 1.6."""
    shards = shards_of(50_000, num_shards=5)
    assert len(shards) == 5
    assert beside_the_best_split(shards, alike(4)) <= BOUND
    assert beside_the_best_split([1] * 5, alike(4)) == 1.6


def test_the_last_quarter_of_the_cost_shrinks_to_a_quarter_of_a_shard() -> None:
    shards = shards_of(500_000)
    first = shards[0]
    tail = [cost for cost in shards if cost < 0.98 * first]
    assert 0.2 < sum(tail) / sum(shards) < 0.3
    assert tail == sorted(tail, reverse=True)
    assert tail[-1] == pytest.approx(first / 4, rel=0.05)


def test_no_shard_shrinks_below_16_records_where_there_are_more() -> None:
    costs = np.full(1_000, 50, np.int64)
    bounds = cut(costs, tapering_sizes(default_num_shards(costs, COST_MOST), len(costs)))
    assert min(np.diff(bounds)) >= RECORDS_PER_SHARD[0]
    assert min(np.diff(bounds)) < max(np.diff(bounds))


def test_shards_of_few_records_are_all_alike() -> None:
    bounds = cut(np.full(30, 50, np.int64), tapering_sizes(3, 30))
    assert np.diff(bounds).tolist() == [10, 10, 10]
