"""The promises of the calibration: from a sample to the whole, without counting a token twice or none."""

import json
import subprocess
import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpu_tasks.inference.batch_plan import BatchPlan, TokenBatch
from gpu_tasks.inference.model import StoreDtype, host_pending
from gpu_tasks.inference.plan_batches import plan_batches
from gpu_tasks.inference.segments import LongRule, window_starts
from gpu_tasks.model_directory.load_model import load_model
from gpu_tasks.models.mock import MockModel, load_mock
from gpu_tasks.probes import batch_timing, calibrate
from gpu_tasks.probes.batch_timing import TimedBatch, relative_error, scattered, seconds_per_token
from gpu_tasks.probes.calibrate import Request, _num_segments, estimate, waited_share
from queue_app.model.reader import find_model
from queue_app.preflight.stratified_sample import StratifiedSampler

MODEL = asdict(find_model("mock:8").spec)
REQUEST = Request(
    model=MODEL, tokenizer=None, device="cpu", dtype="float32", pool="mean", layers=[-1], threads=1,
    store_dtype="float32", toks_per_batch=256, max_length=100, long="window", window_overlap=12,
    kernels="fused", seconds=60, turn=0, texts=[], lengths=[], weights=[],
)  # fmt: skip
LENGTHS = [*range(1, 230, 3), 100, 101, 5_000]


def request_for(lengths: list[int], long: LongRule = "window", cut: int = 10**9) -> Request:
    texts = ["A" * min(length, cut) for length in lengths]
    return replace(REQUEST, texts=texts, lengths=lengths, weights=[1.0] * len(lengths), long=long)


def plan_of(model: MockModel, lengths: list[int], request: Request) -> BatchPlan:
    """What the job itself would compute."""
    return plan_batches(
        model.tokenize(["A" * length for length in lengths]), range(len(lengths)),
        prefix=model.prefix, suffix=model.suffix, toks_per_batch=request.toks_per_batch,
        max_length=request.max_length, long=request.long, window_overlap=request.window_overlap,
    )  # fmt: skip


def planned_tokens(lengths: list[int], long: LongRule) -> int:
    return plan_of(load_mock("mock:8"), lengths, replace(REQUEST, long=long)).num_tokens


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


class Clock:
    """Goes on only when something is computed."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Priced(MockModel):
    """Takes for each row what a transformer does: its tokens, and their square for attention."""

    clock: Clock = field(default_factory=Clock)

    def stage(self, batch: TokenBatch) -> Any:
        return Priced.Staged(self, batch)

    @staticmethod
    def seconds(batch: TokenBatch) -> float:
        lengths = np.diff(batch.cu_seqlens).astype(float)
        return float((lengths + lengths**2 / 300).sum()) / 1000

    @dataclass(frozen=True)
    class Staged:
        model: "Priced"
        batch: TokenBatch

        def launch(self, store_dtype: StoreDtype) -> Any:
            self.model.clock.now += Priced.seconds(self.batch)
            return host_pending(np.zeros((self.batch.num_rows, 8), np.float32), store_dtype)


def test_the_time_of_a_set_of_very_different_lengths_is_told_from_a_tenth_of_its_sample(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = Priced("priced", 8, max_length=1_000)
    monkeypatch.setattr(calibrate, "perf_counter", model.clock)
    monkeypatch.setattr(batch_timing, "perf_counter", model.clock)
    random = np.random.default_rng(0)
    lengths = [*random.lognormal(5, 1, 8_000).astype(int).clip(1).tolist(), 400_000]
    sample = StratifiedSampler(cut_characters=16_000)
    for length in lengths:
        sample.add("A" * length)
    settings = replace(REQUEST, toks_per_batch=1_024, max_length=1_000, window_overlap=125)
    request = replace(settings, **asdict(sample.draw(300_000)))
    found = estimate(model, request)
    whole = plan_of(model, lengths, request)
    exact = sum(Priced.seconds(whole.batch(index)) for index in range(whole.num_batches))
    assert found.measured_batches < 0.1 * whole.num_batches
    assert found.seconds == pytest.approx(exact, rel=max(0.03, 2 * found.relative_error))
    assert found.relative_error < 0.1
    assert found.num_tokens == pytest.approx(whole.num_tokens, rel=0.02)


def test_what_lies_between_timed_batches_costs_what_its_neighbours_do() -> None:
    found = {index: TimedBatch(100, 100 * (10 - index)) for index in (0, 4, 9)}
    assert seconds_per_token(found, 10).tolist() == pytest.approx([10 - index for index in range(10)])


def test_noise_widens_the_error_and_more_batches_narrow_it() -> None:
    random = np.random.default_rng(0)

    def error(noise: float, count: int) -> float:
        batch_timing = 1 + noise * random.standard_normal(count)
        return relative_error({index: TimedBatch(1, rate) for index, rate in enumerate(batch_timing)}, count)

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


# ---- how busy the machine is


def test_what_all_threads_waited_for_a_processor_is_told_as_a_share(tmp_path: Path) -> None:
    for name, times in {"12": "3000 1000 7", "13": "1000 3000 9"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "schedstat").write_text(f"{times}\n")
    assert waited_share(tmp_path) == 0.5
    assert 0 <= waited_share() < 1
    assert waited_share(tmp_path / "not Linux") == 0


# ---- the child process


def ask(request: Request) -> list[object]:
    ended = subprocess.run(
        [sys.executable, "-m", "gpu_tasks.probes.calibrate"],
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
    (answer,) = ask(replace(request_for([10]), model={**MODEL, "path": "mock:none"}))
    assert isinstance(answer, dict)
    assert "write mock:DIM" in answer["error"]
