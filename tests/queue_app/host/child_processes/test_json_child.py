"""A child that answers in JSON: what it says is handed on, and whatever it does, it ends."""

import subprocess
import sys

import pytest

from checkpoint.process_identity import identify
from queue_app.host.child_processes.json_child import ChildFailed, JsonChild
from tests.support.waiting import wait_for


def child(code: str, *, listens: bool = False) -> JsonChild:
    return JsonChild([sys.executable, "-c", code], listens=listens)


def test_the_last_line_is_the_answer() -> None:
    assert child("print('a warning'); print('{\"a\": [1]}')").answer() == {"a": [1]}


@pytest.mark.parametrize(
    ("code", "last_line", "exit_status"),
    [("raise SystemExit('no torch here')", "no torch here", 1), ("raise SystemExit(3)", "", 3)],
)
def test_a_child_without_an_answer_says_why(code: str, last_line: str, exit_status: int) -> None:
    with pytest.raises(ChildFailed) as failed:
        child(code).answer()
    assert (failed.value.last_line, failed.value.exit_status) == (last_line, exit_status)


def test_an_answer_counts_whatever_the_exit_status_unless_the_child_must_succeed() -> None:
    code = "print(1, flush=True); import os; os._exit(4)"
    assert child(code).answer() == 1
    with pytest.raises(ChildFailed, match="exit status 4"):
        child(code).answer(must_succeed=True)


def test_a_child_that_takes_too_long_is_killed() -> None:
    slow = child("import time; time.sleep(600)")
    with pytest.raises(subprocess.TimeoutExpired, match=f"^Command '.'{sys.executable}', '-c'"):
        slow.answer(timeout_seconds=0.2)
    assert identify(slow.pid) is None


def test_a_child_that_listens_answers_line_by_line_until_it_is_closed() -> None:
    echo = child("while True: print(input(), flush=True)", listens=True)
    try:
        assert [echo.ask("1"), echo.ask('{"a": 2}')] == [1, {"a": 2}]
        with pytest.raises(ChildFailed):
            echo.ask("no JSON")
    finally:
        echo.close()
    assert identify(echo.pid) is None


def test_a_child_ends_with_the_process_that_started_it() -> None:
    code = (
        "import sys, time; from queue_app.host.child_processes.json_child import JsonChild;"
        "print(JsonChild([sys.executable, '-c', 'import time; time.sleep(600)']).pid, flush=True)"
    )
    started = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    pid = int(started.stdout)
    wait_for(lambda: identify(pid) is None, "the end of the child")
