"""The promises of the batch plan."""

import hashlib
import os
import subprocess
import sys
from itertools import chain, combinations, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_tasks.inference.batch_plan import BatchPlan, TokenBatch
from gpu_tasks.inference.plan_batches import PLANNER_VERSION, plan_batches
from gpu_tasks.inference.segments import owned_bounds, window_starts
from queue_app.job import directory

CLS, EOS = 256, 257
SPECIAL = 2

lengths_of_records = st.lists(st.integers(0, 40), max_size=30)
long_rules = st.sampled_from(["window", "truncate", "error"])


def make_tokens(lengths: list[int]) -> list[npt.NDArray[np.int32]]:
    """Records whose every token is different, so that a token in the wrong place is seen."""
    cuts = np.cumsum(lengths)[:-1] if lengths else []
    return np.split(1000 + np.arange(sum(lengths), dtype=np.int32), cuts) if lengths else []


def make_plan(lengths: list[int], *, ordinals: list[int] | None = None, **changed: Any) -> BatchPlan:
    arguments: dict[str, Any] = {
        "prefix": (CLS,),
        "suffix": (EOS,),
        "toks_per_batch": 24,
        "max_length": 16,
        "long": "window",
        "window_overlap": 3,
    }
    records = list(range(len(lengths))) if ordinals is None else ordinals
    return plan_batches(make_tokens(lengths), records, **{**arguments, **changed})


def batches(plan: BatchPlan) -> list[TokenBatch]:
    return [plan.batch(index) for index in range(plan.num_batches)]


def rows(batch: TokenBatch) -> list[tuple[int, list[int]]]:
    """The record and the token ids of each row."""
    bounds = pairwise(batch.cu_seqlens.tolist())
    ids = [batch.input_ids[start:stop].tolist() for start, stop in bounds]
    return list(zip(batch.ordinals.tolist(), ids, strict=True))


def all_rows(plan: BatchPlan) -> list[tuple[int, list[int]]]:
    return [row for batch in batches(plan) for row in rows(batch)]


def contents(plan: BatchPlan) -> list[list[tuple[int, list[int]]]]:
    return [rows(batch) for batch in batches(plan)]


# ---- every record, once


@given(lengths_of_records, st.integers(1, 64))
def test_every_record_is_planned_exactly_once_with_all_its_tokens(lengths: list[int], budget: int) -> None:
    planned = all_rows(make_plan(lengths, toks_per_batch=budget, max_length=40))
    whole = [[CLS, *tokens.tolist(), EOS] for tokens in make_tokens(lengths)]
    assert sorted(planned) == list(enumerate(whole))


@given(lengths_of_records, long_rules, st.data())
def test_every_record_is_planned_or_reported(lengths: list[int], rule: str, data: st.DataObject) -> None:
    ordinals = data.draw(st.permutations(range(100, 100 + len(lengths))))
    plan = make_plan(lengths, ordinals=ordinals, long=rule)
    planned = {ordinal for ordinal, _ in all_rows(plan)}
    assert sorted([*planned, *plan.too_long]) == sorted(ordinals)


def test_an_empty_shard_has_no_batches() -> None:
    plan = make_plan([])
    assert (plan.num_batches, plan.num_tokens, plan.fill) == (0, 0, 0.0)


def test_a_record_without_tokens_keeps_its_row_of_special_tokens() -> None:
    assert all_rows(make_plan([0])) == [(0, [CLS, EOS])]


@given(lengths_of_records, long_rules)
def test_the_completed_records_of_all_batches_add_up_to_all_that_are_planned(
    lengths: list[int], rule: str
) -> None:
    plan = make_plan(lengths, long=rule, toks_per_batch=30)
    completed = sum(plan.num_completed(index) for index in range(plan.num_batches))
    assert completed == len(lengths) - len(plan.too_long)


def test_a_record_is_completed_in_the_batch_of_its_last_window() -> None:
    plan = make_plan([40, 16], toks_per_batch=2 * (16 + SPECIAL))
    assert [plan.ordinals(index).tolist() for index in range(plan.num_batches)] == [[0, 0], [0], [1]]
    assert [plan.num_completed(index) for index in range(plan.num_batches)] == [0, 1, 1]


@given(lengths_of_records)
def test_the_windows_of_a_record_are_spread_over_batches_in_their_order(lengths: list[int]) -> None:
    plan = make_plan(lengths, toks_per_batch=40)
    for ordinal, tokens in enumerate(make_tokens(lengths)):
        windows = [ids[1:-1] for row, ids in all_rows(plan) if row == ordinal]
        starts = window_starts(len(tokens), 16, 3).tolist() if len(tokens) > 16 else [0]
        assert windows == [tokens[start : start + 16].tolist() for start in starts]


# ---- the budget


@given(lengths_of_records, st.integers(1, 64))
def test_no_batch_exceeds_the_budget_but_a_row_alone(lengths: list[int], budget: int) -> None:
    for batch in batches(make_plan(lengths, toks_per_batch=budget)):
        assert len(batch.input_ids) <= budget or batch.num_rows == 1


@given(lengths_of_records, st.integers(1, 64))
def test_a_batch_is_begun_only_where_no_earlier_one_has_room(lengths: list[int], budget: int) -> None:
    for earlier, later in combinations(batches(make_plan(lengths, toks_per_batch=budget)), 2):
        if earlier.of_windows == later.of_windows:
            assert len(earlier.input_ids) + later.cu_seqlens[1] > budget


@given(lengths_of_records, st.integers(1, 64))
def test_a_batch_holds_windows_or_whole_records_and_says_which(lengths: list[int], budget: int) -> None:
    found = batches(make_plan(lengths, toks_per_batch=budget))
    for batch in found:
        assert {lengths[ordinal] > 16 for ordinal in batch.ordinals.tolist()} == {batch.of_windows}
    assert [batch.of_windows for batch in found] == sorted((b.of_windows for b in found), reverse=True)


def test_short_rows_fill_what_long_ones_leave_of_the_budget() -> None:
    plan = make_plan([20, 18, 4, 2], toks_per_batch=26, max_length=40)
    assert [batch.ordinals.tolist() for batch in batches(plan)] == [[0, 3], [1, 2]]
    assert plan.fill == 1.0


def test_a_row_goes_where_it_leaves_the_least_room() -> None:
    plan = make_plan([18, 14, 10, 0], toks_per_batch=30, max_length=40)
    assert [batch.ordinals.tolist() for batch in batches(plan)] == [[0], [1, 2, 3]]


def test_fill_and_num_tokens_count_the_special_tokens() -> None:
    plan = make_plan([10, 10, 10], toks_per_batch=24)
    assert (plan.num_batches, plan.num_tokens, plan.fill) == (2, 36, 0.75)


# ---- the order


@given(lengths_of_records, st.data())
def test_rows_of_a_batch_run_from_long_to_short_and_ties_by_ordinal(
    lengths: list[int], data: st.DataObject
) -> None:
    ordinals = data.draw(st.permutations(range(len(lengths))))
    for batch in batches(make_plan(lengths, ordinals=ordinals, max_length=40)):
        assert batch.ordinals.tolist() == sorted(
            batch.ordinals.tolist(), key=lambda ordinal: (-lengths[ordinals.index(ordinal)], ordinal)
        )


@given(lengths_of_records, st.sampled_from([16, 40]))
def test_the_batches_with_the_longest_rows_come_first(lengths: list[int], limit: int) -> None:
    longest = [batch.max_seqlen for batch in batches(make_plan(lengths, max_length=limit))]
    assert longest == sorted(longest, reverse=True)


@given(lengths_of_records, st.randoms())
def test_the_plan_does_not_depend_on_the_order_of_its_records(lengths: list[int], random: Any) -> None:
    tokens = make_tokens(lengths)
    order = random.sample(range(len(lengths)), len(lengths))
    shared: dict[str, Any] = {"prefix": (CLS,), "suffix": (), "toks_per_batch": 24, "max_length": 16}
    plan = plan_batches(tokens, range(len(lengths)), **shared, long="window", window_overlap=3)
    other = plan_batches([tokens[row] for row in order], order, **shared, long="window", window_overlap=3)
    assert contents(plan) == contents(other)


# ---- determinism


@given(lengths_of_records, long_rules)
def test_equal_arguments_give_equal_plans(lengths: list[int], rule: str) -> None:
    plan, again = make_plan(lengths, long=rule), make_plan(lengths, long=rule)
    assert plan.fingerprint == again.fingerprint
    assert contents(plan) == contents(again)


def layout(plan: BatchPlan) -> str:
    owned = [(batch.owned_starts.tolist(), batch.owned_ends.tolist()) for batch in batches(plan)]
    return hashlib.sha256(repr((contents(plan), owned)).encode()).hexdigest()[:16]


GOLDEN = (3, "7b566bbcb0a6da62b635ca95ef63dd8a", "40684ff0cca44516")
"""Version, fingerprint and layout of one plan. Whoever changes one of the last two must raise the version:
batches that were committed before would be taken for those of the new plan."""


def test_a_changed_planner_has_a_new_version() -> None:
    plan = make_plan([5, 40, 0, 16, 17, 16, 3, 33], toks_per_batch=40)
    assert (PLANNER_VERSION, plan.fingerprint, layout(plan)) == GOLDEN


def test_planner_and_job_file_name_the_same_version() -> None:
    assert PLANNER_VERSION == directory.PLANNER_VERSION


def test_the_plan_is_the_same_in_processes_with_other_hash_seeds() -> None:
    script = f"from {__name__} import *; p = make_plan([40, 3, 3]); print(p.fingerprint, layout(p))"
    printed = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(printed) == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"prefix": (CLS, CLS)},
        {"suffix": ()},
        {"toks_per_batch": 25},
        {"max_length": 15},
        {"long": "truncate"},
        {"window_overlap": 2},
        {"ordinals": [0, 2]},
    ],
    ids=str,
)
def test_every_argument_is_part_of_the_fingerprint(changed: dict[str, Any]) -> None:
    assert make_plan([5, 7], **changed).fingerprint != make_plan([5, 7]).fingerprint


def test_every_token_is_part_of_the_fingerprint() -> None:
    tokens = [np.array([1, 2], np.int32), np.array([3], np.int32)]
    moved = [np.array([1], np.int32), np.array([2, 3], np.int32)]
    other = [np.array([1, 2], np.int32), np.array([4], np.int32)]
    rest: dict[str, Any] = {
        "prefix": (),
        "suffix": (),
        "toks_per_batch": 9,
        "max_length": 9,
        "window_overlap": 0,
    }
    plans = [plan_batches(each, [0, 1], **rest, long="window") for each in (tokens, moved, other)]
    assert len({plan.fingerprint for plan in plans}) == 3


# ---- long records


@given(st.integers(2, 60), st.integers(0, 50), st.integers(1, 400))
def test_windows_cover_every_token_and_overlap(window: int, overlap: int, excess: int) -> None:
    overlap %= window
    starts = window_starts(window + excess, window, overlap).tolist()
    assert starts[0] == 0
    assert starts[-1] == excess
    assert all(0 < later - start <= window - overlap for start, later in pairwise(starts))


@given(st.integers(2, 60), st.integers(0, 50), st.integers(1, 400))
def test_there_is_no_window_too_many_and_they_are_spaced_evenly(
    window: int, overlap: int, excess: int
) -> None:
    overlap %= window
    steps = np.diff(window_starts(window + excess, window, overlap))
    assert len(steps) == -(-excess // (window - overlap))
    assert steps.max() - steps.min() <= 1


def deepest_windows(length: int, window: int, overlap: int) -> list[int]:
    """Of each token the window that it lies deepest in, by looking at every one."""
    starts = window_starts(length, window, overlap).tolist()

    def depth(token: int, start: int) -> int:
        return min(token - start, start + window - 1 - token)

    return [max(range(len(starts)), key=lambda i: depth(token, starts[i])) for token in range(length)]


@given(st.integers(1, 30), st.integers(0, 29), st.integers(1, 100))
def test_a_token_belongs_to_the_window_in_which_it_lies_deepest(
    window: int, overlap: int, excess: int
) -> None:
    overlap %= window
    bounds = owned_bounds(window + excess, window, overlap)
    owners = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    assert owners.tolist() == deepest_windows(window + excess, window, overlap)
    assert set(owners.tolist()) == set(range(len(bounds) - 1))  # no window for nothing


@given(lengths_of_records, st.integers(0, 2), st.integers(0, 2), st.integers(0, 15))
def test_the_rows_of_a_record_own_each_of_its_tokens_once_and_the_special_ones_at_its_ends(
    lengths: list[int], num_prefix: int, num_suffix: int, overlap: int
) -> None:
    prefix, suffix = [CLS] * num_prefix, [EOS] * num_suffix
    plan = make_plan(lengths, prefix=prefix, suffix=suffix, window_overlap=overlap, toks_per_batch=40)
    owned: dict[int, list[list[int]]] = {ordinal: [] for ordinal in range(len(lengths))}
    for batch in batches(plan):
        for row, (ordinal, ids) in enumerate(rows(batch)):
            owned[ordinal].append(ids[batch.owned_starts[row] : batch.owned_ends[row]])
    for ordinal, tokens in enumerate(make_tokens(lengths)):
        assert [*chain(*owned[ordinal])] == [*prefix, *tokens.tolist(), *suffix]
        if ordinal in plan.window_lengths:
            starts, ends, whole = plan.owned(ordinal)
            assert (ends - starts).tolist() == [len(part) for part in owned[ordinal]]
            assert set(whole.tolist()) == {16 + num_prefix + num_suffix}


@given(st.integers(17, 100))
def test_the_windows_of_a_record_are_equally_long_and_in_their_order(length: int) -> None:
    payload = make_tokens([length])[0].tolist()
    planned = [ids[1:-1] for _, ids in all_rows(make_plan([length]))]
    assert [len(ids) for ids in planned] == [16] * len(planned)
    assert planned == sorted(planned)
    assert sorted({token for ids in planned for token in ids}) == payload


def test_a_record_as_long_as_the_limit_is_one_window() -> None:
    assert len(all_rows(make_plan([16]))) == 1
    assert len(all_rows(make_plan([17]))) == 2


def test_truncate_keeps_the_head_and_counts_the_cut_records() -> None:
    plan = make_plan([20, 16, 30], long="truncate")
    heads = [tokens[:16].tolist() for tokens in make_tokens([20, 16, 30])]
    assert sorted(all_rows(plan)) == [(i, [CLS, *head, EOS]) for i, head in enumerate(heads)]
    assert (plan.num_long, plan.too_long) == (2, ())


def test_error_reports_the_long_records_and_plans_the_rest() -> None:
    plan = make_plan([20, 16, 30], ordinals=[7, 8, 9], long="error")
    assert plan.too_long == (7, 9)
    assert [ordinal for ordinal, _ in all_rows(plan)] == [8]


def test_a_shard_of_nothing_but_too_long_records_has_no_batches() -> None:
    plan = make_plan([20, 30], long="error")
    assert (plan.num_batches, plan.too_long) == (0, (0, 1))


# ---- a batch


@given(lengths_of_records)
def test_a_batch_names_its_index_its_longest_row_and_its_records(lengths: list[int]) -> None:
    plan = make_plan(lengths)
    for index, batch in enumerate(batches(plan)):
        assert batch.batch_idx == index
        assert batch.max_seqlen == np.diff(batch.cu_seqlens).max()
        assert batch.ordinals.tolist() == plan.ordinals(index).tolist()


def test_the_arrays_have_the_dtypes_that_kernels_expect() -> None:
    batch = make_plan([3]).batch(0)
    assert (batch.ordinals.dtype, batch.input_ids.dtype, batch.cu_seqlens.dtype) == ("u8", "i8", "i4")


@pytest.mark.parametrize("index", [-1, 1])
def test_a_batch_that_is_not_planned_is_refused(index: int) -> None:
    with pytest.raises(IndexError, match="the plan has 1"):
        make_plan([3]).batch(index)


@given(lengths_of_records, st.sets(st.integers(0, 30)))
def test_records_that_are_set_aside_leave_the_other_rows_as_they_are(
    lengths: list[int], aside: set[int]
) -> None:
    for batch in batches(make_plan(lengths, toks_per_batch=60)):
        left = batch.without(aside)
        kept = [row for row, (ordinal, _) in enumerate(rows(batch)) if ordinal not in aside]
        assert left.owned_starts.tolist() == batch.owned_starts[kept].tolist()
        assert left.owned_ends.tolist() == batch.owned_ends[kept].tolist()
        assert left.of_windows == batch.of_windows
        assert rows(left) == [row for row in rows(batch) if row[0] not in aside]
        assert left.max_seqlen == max((len(ids) for _, ids in rows(left)), default=0)
        assert left.batch_idx == batch.batch_idx


# ---- refusals


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"ordinals": [1, 1]}, "ordinal is given twice"),
        ({"ordinals": [1]}, "2 records but 1 ordinals"),
        ({"toks_per_batch": 0}, "toks_per_batch=0"),
        ({"max_length": 0}, "max_length=0"),
        ({"long": "drop"}, "long='drop'"),
        ({"window_overlap": 16}, "window_overlap=16"),
        ({"window_overlap": -1}, "window_overlap=-1"),
    ],
    ids=str,
)
def test_senseless_arguments_are_refused_by_name(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_plan([5, 7], **changed)
