"""What a worker's parent does again and again outlives what it meets."""

import logging
from collections.abc import Callable

import pytest
import redis

from queue_app.coordination.trust.told_once import ToldOnce
from queue_app.coordination.trust.values import Garbage
from queue_app.worker import lasting_steps
from queue_app.worker.lasting_steps import HOPELESS_SECONDS, PAUSE_MOST_SECONDS, LastingStep


class Taken:
    """A step that raises as often as the test wants, by a clock that the test moves."""

    def __init__(self, *, is_supervised: bool = False) -> None:
        self.now, self.times = 0.0, 0
        self.error: Exception | None = None
        faults = ToldOnce(logging.getLogger(__name__))
        self.step = LastingStep(self._run, faults, is_supervised=is_supervised, clock=lambda: self.now)

    def _run(self) -> None:
        self.times += 1
        if self.error is not None:
            raise self.error

    def take(self, seconds: float = 1.0) -> None:
        self.now += seconds
        self.step.take()


@pytest.mark.parametrize("error", [redis.ConnectionError("away"), Garbage("key", "odd"), None])
def test_a_server_that_is_away_and_garbage_cost_no_pause(error: Exception | None) -> None:
    taken = Taken()
    taken.error = error
    for _ in range(10):
        taken.take()
    assert taken.times == 10


def test_an_error_nobody_expected_is_tried_again_at_a_bounded_pace(caplog: pytest.LogCaptureFixture) -> None:
    taken = Taken()
    taken.error = ValueError("odd")
    for _ in range(600):
        taken.take()
    assert 600 / PAUSE_MOST_SECONDS <= taken.times < 50
    assert len([each for each in caplog.records if each.exc_info]) == 1, "its trace once"
    taken.error = None
    taken.take(PAUSE_MOST_SECONDS)
    before = taken.times
    taken.take()
    assert taken.times == before + 1, "no pause is left once it went well"


@pytest.mark.parametrize("is_supervised", [True, False])
def test_only_a_worker_that_would_be_started_again_gives_up(
    monkeypatch: pytest.MonkeyPatch, is_supervised: bool
) -> None:
    ended: list[str] = []
    end: Callable[[str, object], None] = lambda why, _: ended.append(why)  # noqa: E731
    monkeypatch.setattr(lasting_steps, "end_process", end)
    taken = Taken(is_supervised=is_supervised)
    taken.error = ValueError("odd")
    for _ in range(int(HOPELESS_SECONDS)):
        taken.take()
    assert ended == []
    for _ in range(30):
        taken.take()
    assert bool(ended) is is_supervised


def test_a_fault_is_told_once_and_counted_each_time(caplog: pytest.LogCaptureFixture) -> None:
    counted: list[int] = []
    faults = ToldOnce(logging.getLogger(__name__), lambda: counted.append(1))
    for _ in range(3):
        with faults.passed_over():
            raise Garbage("key", "odd")
    assert [each.message for each in caplog.records] == ["key: odd"]
    assert len(counted) == 3
