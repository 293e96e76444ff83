"""When a worker's child counts as hung."""

import os
import signal
import subprocess

import pytest

from queue_app.worker.child_state import ChildState
from tests.support.waiting import wait_for


def test_a_child_that_begins_batches_is_not_hung() -> None:
    now = 0.0
    state = ChildState(lambda: now)
    for now in (10.0, 20.0, 30.0):  # noqa: B007
        state.begin_batch()
        assert state.stalled_seconds(os.getpid()) == 0


def test_a_child_at_work_that_begins_no_batch_is_hung_for_so_long() -> None:
    now = 0.0
    state = ChildState(lambda: now)
    state.begin_batch()
    assert state.stalled_seconds(os.getpid()) == 0
    now = 40.0
    assert state.stalled_seconds(os.getpid()) == 40


def test_an_idle_child_is_never_hung() -> None:
    now = 0.0
    state = ChildState(lambda: now)
    with state.computing():
        pass
    now = 1000.0
    assert state.stalled_seconds(os.getpid()) == 0


def test_the_parent_sees_the_work_of_its_child() -> None:
    now = 0.0
    state = ChildState(lambda: now)
    child = os.fork()
    if child == 0:
        state.begin_batch()
        os._exit(0)
    os.waitpid(child, 0)
    assert state.stalled_seconds(child) == 0
    now = 40.0
    assert state.stalled_seconds(child) == 40


def test_what_a_dead_child_left_behind_is_not_held_against_its_successor() -> None:
    now = 0.0
    state = ChildState(lambda: now)
    state.begin_batch()
    successor = os.getpid() + 1
    for now in range(40):  # noqa: B007
        assert not state.is_stopped(successor, patience=15)
        assert state.stalled_seconds(successor) == 0


def look(state: ChildState) -> bool:
    return state.is_stopped(os.getpid(), patience=15)


def test_a_child_that_does_not_run_is_stopped_once_patience_is_over() -> None:
    now = 0.0
    state = ChildState(lambda: now)
    state.begin_batch()
    answers = []
    for now in range(0, 17, 1):  # noqa: B007
        answers.append(look(state))
    assert answers == [False] * 15 + [True, True]


def test_a_child_that_begins_at_once_is_not_taken_for_its_dead_predecessor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    state = ChildState(lambda: now)
    state.begin_batch()
    for now in range(15):  # noqa: B007
        assert not look(state)
    successor = os.getpid() + 1
    monkeypatch.setattr("queue_app.worker.child_state.os.getpid", lambda: successor)
    state.begin_batch()
    for now in range(15, 29):  # noqa: B007
        assert not state.is_stopped(successor, patience=15)


def test_a_child_that_hangs_in_a_kernel_is_not_stopped() -> None:
    now = 0.0
    state = ChildState(lambda: now)
    state.begin_batch()
    for now in range(40):  # noqa: B007
        state.tick()
        assert not look(state)


def test_an_idle_child_is_not_stopped() -> None:
    now = 0.0
    state = ChildState(lambda: now)
    for now in range(40):  # noqa: B007
        assert not look(state)


def test_a_parent_that_was_stopped_too_looks_again_before_it_judges() -> None:
    now = 0.0
    state = ChildState(lambda: now)
    state.begin_batch()
    look(state)
    now = 100.0
    assert not look(state)


def test_a_child_at_work_shows_that_it_runs() -> None:
    state = ChildState()
    with state.computing():
        before = state._ticks()
        wait_for(lambda: state._ticks() > before, "a tick")


def test_an_idle_child_that_a_signal_stopped_is_stopped_once_patience_is_over() -> None:
    now = 0.0
    state = ChildState(lambda: now)
    with subprocess.Popen(["sleep", "60"]) as child:
        try:
            for now in range(40):  # noqa: B007
                assert not state.is_stopped(child.pid, patience=15)
            child.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
            answers = []
            for now in range(40, 57):  # noqa: B007
                answers.append(state.is_stopped(child.pid, patience=15))
            child.send_signal(signal.SIGCONT)
        finally:
            child.kill()
    assert answers == [False] * 14 + [True] * 3
