"""The promises of a trial: it says why it fails, and never outlives whoever started it."""

from dataclasses import asdict
from typing import Any

import pytest

from checkpoint.process_identity import identify
from queue_app.model.reader import find_model
from queue_app.preflight.trial_worker import NotTimed, TrialDevice, trials

MOCK = asdict(find_model("mock:8").spec)
DEVICES = [TrialDevice("cpu0", "")]


def work(model: str) -> dict[str, Any]:
    return {
        "model": {**MOCK, "path": model}, "tokenizer": None,
        "device": "cpu", "dtype": "float32", "pool": "mean", "layers": [-1], "threads": 1,
        "store_dtype": "float32", "toks_per_batch": 64, "max_length": 50, "long": "window",
        "window_overlap": 6, "kernels": "fused", "seconds": 60.0, "turn": 0.0,
        "texts": ["MKV"], "lengths": [3], "weights": [1.0],
    }  # fmt: skip


def answer(model: str, *, seconds_most: float = 60) -> dict[str, Any]:
    with trials(DEVICES, seconds_most=seconds_most) as (trial,):
        trial.load(work(model))
        return trial.compute()


def test_trials_end_with_whoever_waits_for_them() -> None:
    pids = []

    def give_up_waiting() -> None:
        with trials(DEVICES, seconds_most=60) as (trial,):
            trial.load(work("mock:8"))
            pids.append(trial._child.pid)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        give_up_waiting()
    assert identify(pids[0]) is None


def test_a_trial_that_takes_too_long_is_killed_and_said_to_have() -> None:
    with pytest.raises(NotTimed, match="took too long"):
        answer("mock:8,hang=MK", seconds_most=1)


@pytest.mark.parametrize(
    ("model", "why"),
    [("mock:none", "write mock:DIM"), ("mock:8,raise=MK", "ValueError: a sequence holds MK")],
    ids=["answered", "by its last words"],
)
def test_a_trial_that_fails_says_why_and_where(model: str, why: str) -> None:
    with pytest.raises(NotTimed, match=f"^cpu0: .*{why}"):
        answer(model)
