"""What may pass is waited for, counted and told, no longer than the worker lives: the shard comes home."""

import logging
from collections.abc import Callable

import pytest
import redis
from kombu.exceptions import OperationalError

from gpu_tasks import task
from gpu_tasks.errors import JobHopeless
from gpu_tasks.shard.trouble import setbacks
from gpu_tasks.shard.trouble.setbacks import Setbacks
from queue_app.celery_app import OPTIONS, app
from queue_app.errors import Damage
from queue_app.settings import runtime_config
from queue_app.worker.metrics.counters import Count, counters


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, float]]:
    """Each pause, as how many in a row it was and its upper bound; none of them takes time."""
    seen: list[tuple[int, float]] = []

    def pause(times: int, most: float) -> float:
        seen.append((times, most))
        return 0.0

    monkeypatch.setattr(setbacks, "pause_seconds", pause)
    return seen


def failing(*errors: Exception) -> Callable[[], str]:
    """A task that fails with one error after the other, and then is done."""
    left = iter(errors)

    def run() -> str:
        for error in left:
            raise error
        return "done"

    return run


def test_a_server_that_is_away_is_waited_for_and_the_waits_are_counted_and_told(
    pauses: list[tuple[int, float]], caplog: pytest.LogCaptureFixture
) -> None:
    before = counters.total(Count.SERVER_WAITS)
    away = [redis.ConnectionError("gone"), redis.TimeoutError("slow"), OperationalError("gone")]
    with caplog.at_level(logging.WARNING):
        assert Setbacks().outlast(failing(*away)) == "done"
    most = runtime_config().retry_seconds
    assert pauses == [(1, most), (2, most), (3, most)]
    assert counters.total(Count.SERVER_WAITS) == before + 3
    assert [line.split(",")[0] for line in caplog.messages] == ["setback 1", "setback 2", "setback 3"]


def test_after_a_task_that_ended_the_waits_begin_small_again(pauses: list[tuple[int, float]]) -> None:
    ours = Setbacks()
    for _ in range(2):
        ours.outlast(failing(redis.ConnectionError("gone")))
    assert [times for times, _ in pauses] == [1, 1]


def test_who_waits_for_a_server_leaves_when_the_worker_is_to_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setbacks, "pause_seconds", lambda times, most: 3600.0)
    monkeypatch.setattr(setbacks.child_state, "is_draining", lambda: True)
    assert Setbacks().outlast(failing(redis.ConnectionError("gone"))) == "server away"


def test_what_nobody_expected_costs_a_pause_and_the_message_and_no_more(
    pauses: list[tuple[int, float]], caplog: pytest.LogCaptureFixture
) -> None:
    """As a value on the server that is none. The shard stays dealt, and is dealt again."""
    ours, before = Setbacks(), counters.total(Count.TROUBLES)
    for _ in range(3):
        assert ours.outlast(failing(ValueError("no number"))) == "not begun"
    assert [times for times, _ in pauses] == [1, 2, 3]
    assert counters.total(Count.TROUBLES) == before + 3
    assert "ValueError: no number" in caplog.text


@pytest.mark.parametrize("error", [Damage("broken"), JobHopeless("no use")])
def test_what_no_other_try_would_mend_is_told_to_celery_as_a_failure(
    pauses: list[tuple[int, float]], error: Exception
) -> None:
    with pytest.raises(type(error)):
        Setbacks().outlast(failing(error))
    assert pauses == []


def test_celery_sends_nothing_again() -> None:
    """A message with a delay of ours could be one of a stranger's: so there are none."""
    for each in (task.embed_shard, task.export_job):
        assert not getattr(each, "autoretry_for", ())
        assert app.tasks[each.name].acks_late
    assert OPTIONS["task_reject_on_worker_lost"]
