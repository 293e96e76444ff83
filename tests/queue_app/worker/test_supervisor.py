"""Which workers are started again: real processes that end as a worker does."""

import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from queue_app.errors import HoldfastError
from queue_app.host.lasting_threads import UNEXPECTED_STATUS
from queue_app.host.processes import ProcessFile
from queue_app.worker import supervisor
from queue_app.worker.supervisor import GPUProcessCoordinator
from tests.support.waiting import wait_for

Made = tuple[GPUProcessCoordinator, Path]


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Made]:
    """A supervisor of one worker, whose status at its end stands in a file; `up`: it stays."""
    status = tmp_path / "status"
    program = (
        "import sys, time, pathlib\n"
        f"said = pathlib.Path({str(status)!r}).read_text()\n"
        "print('[x] CRITICAL: thread reconciler died', flush=True)\n"
        "time.sleep(300) if said == 'up' else sys.exit(int(said))\n"
    )
    monkeypatch.setattr(supervisor, "worker_command", lambda queue: [sys.executable, "-c", program])
    workers = GPUProcessCoordinator(["cpu0"], {}, tmp_path / "logs", ProcessFile(tmp_path / "p.json"))
    yield workers, status
    workers.stop(grace_seconds=0)


def lines_until(workers: GPUProcessCoordinator, number: int) -> list[str]:
    """What it says of so many ends."""
    said: list[str] = []

    def enough() -> bool:
        said.extend(workers.restart_dead())
        return len(said) >= number

    wait_for(enough, "the ends of a worker")
    return said


def test_a_worker_that_ends_by_an_unexpected_error_is_started_again_without_end(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers, status = made
    status.write_text(str(UNEXPECTED_STATUS))
    monkeypatch.setattr(supervisor, "RESTART_MOST_SECONDS", 0.05)
    workers.start()
    said = lines_until(workers, 2 * supervisor.QUICK_DEATHS_MOST)
    assert all("it is started again in" in line and "thread reconciler died" in line for line in said)
    status.write_text("up")
    wait_for(lambda: not workers.restart_dead() and _is_up(workers), "the worker to stay")


def _is_up(workers: GPUProcessCoordinator) -> bool:
    (worker,) = workers._workers.values()
    return worker.restart_at is None and worker.process.poll() is None


def test_its_pauses_grow_and_stay_below_what_a_minute_allows(made: Made) -> None:
    workers, status = made
    status.write_text(str(UNEXPECTED_STATUS))
    workers.start()
    for number in range(8):
        (line,) = lines_until(workers, 1)
        assert f"in {min(supervisor.RESTART_MOST_SECONDS, 2**number):.0f} s" in line
        workers._workers["cpu0"].restart_at = time.monotonic()
    assert supervisor.RESTART_MOST_SECONDS < 20


def test_a_worker_that_cannot_start_is_left_out_after_few_tries_and_says_why(made: Made) -> None:
    workers, status = made
    status.write_text("1")
    workers.start()
    with pytest.raises(HoldfastError, match=r"cpu0 does not stay up: .*reconciler died"):
        lines_until(workers, 10)


def test_a_worker_that_was_killed_from_outside_is_started_again(made: Made) -> None:
    workers, status = made
    status.write_text("up")
    workers.start()
    workers._workers["cpu0"].process.send_signal(signal.SIGKILL)
    assert lines_until(workers, 1) == ["worker cpu0 died and was started again"]
