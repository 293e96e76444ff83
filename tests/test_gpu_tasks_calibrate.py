"""The promises of the calibration: from a sample to the whole, without counting a token twice or none."""

import json
import subprocess
import sys
from dataclasses import asdict, replace

import numpy as np
import pytest

from gpu_tasks.batching import LongRule, plan_batches, window_starts
from gpu_tasks.calibrate import Request, _num_segments, estimate
from gpu_tasks.models import load_model
from gpu_tasks.rates import TimedBatch, relative_error, scattered, seconds_per_token

REQUEST = Request(
    model="mock:8", device="cpu", dtype="float32", pool="mean", threads=1, store_dtype="float32",
    toks_per_batch=256, max_length=100, long="window", window_overlap=12, seconds=60, turn=0,
    texts=[], lengths=[], weights=[],
)  # fmt: skip
LENGTHS = [*range(1, 230, 3), 100, 101, 5_000]


def request_for(lengths: list[int], long: LongRule = "window", cut: int = 10**9) -> Request:
    texts = ["A" * min(length, cut) for length in lengths]
    return replace(REQUEST, texts=texts, lengths=lengths, weights=[1.0] * len(lengths), long=long)


def planned_tokens(lengths: list[int], long: LongRule) -> int:
    """What the job itself would compute."""
    model = load_model("mock:8")
    plan = plan_batches(
        model.tokenize(["A" * length for length in lengths]), range(len(lengths)),
        prefix=model.prefix, suffix=model.suffix, toks_per_batch=REQUEST.toks_per_batch,
        max_length=REQUEST.max_length, long=long, window_overlap=REQUEST.window_overlap,
    )  # fmt: skip
    return plan.num_tokens


@pytest.mark.parametrize("long", ["window", "truncate", "error"])
@pytest.mark.parametrize("cut", [10**9, 150], ids=["whole texts", "cut texts"])
def test_a_sample_of_all_records_has_exactly_the_tokens_of_the_job(long: LongRule, cut: int) -> None:
    found = estimate(load_model("mock:8"), request_for(LENGTHS, long, cut))
    assert found.num_tokens == planned_tokens(LENGTHS, long)
    assert found.num_long == sum(length > REQUEST.max_length for length in LENGTHS)


def test_a_record_counts_as_often_as_it_stands_for() -> None:
    request = replace(request_for([10, 50, 300]), weights=[4.0, 2.0, 3.0])
    tokens = estimate(load_model("mock:8"), request).num_tokens
    assert tokens == planned_tokens([10] * 4 + [50] * 2 + [300] * 3, "window")


@pytest.mark.parametrize("overlap", [0, 12, 99])
def test_windows_are_counted_as_they_are_cut(overlap: int) -> None:
    request = replace(request_for([]), window_overlap=overlap)
    lengths = np.arange(1, 1_000)
    cut = [1 if n <= 100 else len(window_starts(n, 100, overlap)) for n in lengths.tolist()]
    assert _num_segments(lengths, request).tolist() == cut


def test_it_ends_when_the_time_is_over_and_says_what_it_had() -> None:
    request = replace(request_for(LENGTHS), seconds=0.001)
    found = estimate(load_model("mock:8,delay_ms=10"), request)
    assert found.measured_batches == 1
    assert found.relative_error > 0.2
    assert found.measured_seconds >= 0.01


def test_time_is_reckoned_for_what_was_not_computed() -> None:
    request = replace(request_for([90] * 100), weights=[1_000.0] * 100, seconds=0.001)
    found = estimate(load_model("mock:8,delay_ms=5"), request)
    assert found.measured_batches == 1
    assert found.seconds >= 0.005 * 100_000 / 2  # two records in a batch


def test_what_lies_between_timed_batches_costs_what_its_neighbours_do() -> None:
    found = {index: TimedBatch(100, 100 * (10 - index)) for index in (0, 4, 9)}
    assert seconds_per_token(found, 10).tolist() == pytest.approx([10 - index for index in range(10)])


def test_noise_widens_the_error_and_more_batches_narrow_it() -> None:
    random = np.random.default_rng(0)

    def error(noise: float, count: int) -> float:
        rates = 1 + noise * random.standard_normal(count)
        return relative_error({index: TimedBatch(1, rate) for index, rate in enumerate(rates)}, count)

    assert error(0.0, 50) == 0
    assert error(0.3, 400) < error(0.3, 25)
    assert error(0.3, 400) == pytest.approx(0.3 / 20, rel=0.3)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 100, 987])
@pytest.mark.parametrize("turn", [0.0, 0.5, 0.99])
def test_every_batch_has_its_turn_and_the_first_is_computed_twice(count: int, turn: float) -> None:
    order = scattered(count, turn)
    assert sorted(order[1:]) == list(range(count))
    assert order[0] == order[1]


def test_the_first_batches_are_from_all_over_the_plan() -> None:
    first = sorted(scattered(1_000, 0.0)[1:9])
    assert max(np.diff([0, *first, 1_000])) < 250


# ---- the child process


def ask(request: Request) -> list[object]:
    ended = subprocess.run(
        [sys.executable, "-m", "gpu_tasks.calibrate"],
        input=json.dumps(asdict(request)) + "\nbegin\n", capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


def test_the_child_answers_when_it_is_ready_and_when_it_is_done() -> None:
    ready, answer = ask(request_for([10, 20]))
    assert ready == "ready"
    assert isinstance(answer, dict)
    assert answer["num_tokens"] == 34


def test_the_child_says_in_one_answer_why_it_cannot() -> None:
    (answer,) = ask(replace(request_for([10]), model="mock:none"))
    assert isinstance(answer, dict)
    assert "write mock:DIM" in answer["error"]
