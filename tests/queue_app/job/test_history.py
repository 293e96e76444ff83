"""What a job went through, as its directory keeps it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from queue_app.job.directory import JobDir
from queue_app.job.history import Attempt, AttemptLog, CommandLog, Outcome, read_history


class Clock:
    """A clock that is set by hand."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def job_dir(tmp_path: Path) -> JobDir:
    return JobDir(tmp_path)


def log(
    job_dir: JobDir, clock: Callable[[], float], shard: int = 0, token: int = 1, job: str = "a"
) -> AttemptLog:
    attempt = Attempt(job, shard, token, "gpu0@host", "NVIDIA H200", "2.13", began=clock(), seen=clock())
    return AttemptLog(job_dir, attempt, clock, clock)


def test_an_attempt_is_kept_with_its_last_sign_of_life(job_dir: JobDir) -> None:
    clock = Clock(100.0)
    kept = log(job_dir, clock)
    clock.now = 103.0
    kept.note(num_tokens=500, num_batches=4, num_long=1, fill=0.9)
    clock.now = 105.0
    kept.note(outcome=Outcome.DONE)
    (attempt,) = read_history(job_dir, "a").attempts
    assert (attempt.began, attempt.seen, attempt.outcome) == (100.0, 105.0, Outcome.DONE)
    assert (attempt.num_tokens, attempt.num_long) == (500, 1)


def test_a_clock_that_is_set_and_a_machine_that_sleeps_are_no_time_at_work(job_dir: JobDir) -> None:
    clock, stopwatch = Clock(1e9), Clock(0.0)
    for token in range(3):
        attempt = Attempt("a", token, 1, "cpu0@host", "", "", began=clock(), seen=clock())
        kept = AttemptLog(job_dir, attempt, clock, stopwatch)
        clock.now += 2 + 3600  # forward in the middle of it, as after a night
        stopwatch.now += 2
        kept.note(outcome=Outcome.DONE)
    assert read_history(job_dir, "a").busy_seconds() == pytest.approx(6)


def test_a_process_that_died_leaves_an_attempt_without_an_outcome(job_dir: JobDir) -> None:
    log(job_dir, Clock(100.0)).note()
    (attempt,) = read_history(job_dir, "a").attempts
    assert attempt.outcome is None


def test_an_error_is_kept_and_cut_where_it_is_endless(job_dir: JobDir) -> None:
    log(job_dir, Clock(100.0)).fail("no " * 1000)
    (attempt,) = read_history(job_dir, "a").attempts
    assert attempt.outcome is Outcome.FAILED
    assert len(attempt.reason) == 500


def test_what_a_power_loss_left_of_a_file_is_passed_over(job_dir: JobDir) -> None:
    log(job_dir, Clock(100.0), shard=1).note()
    (job_dir.history / "00002-1.json").write_bytes(b"")
    (job_dir.history / "command-1.json").write_text('{"host": ')
    assert [attempt.shard for attempt in read_history(job_dir, "a").attempts] == [1]
    assert read_history(job_dir, "a").starts == ()


def test_time_at_work_is_counted_once_where_workers_overlap_and_not_between_two_runs(job_dir: JobDir) -> None:
    for shard, (began, seen) in enumerate([(100.0, 110.0), (105.0, 108.0), (108.0, 112.0), (500.0, 501.0)]):
        clock = Clock(began)
        kept = log(job_dir, clock, shard)
        clock.now = seen
        kept.note(outcome=Outcome.DONE)
    assert read_history(job_dir, "a").busy_seconds() == 13.0


def test_each_start_of_the_command_is_kept_with_what_died_under_it(job_dir: JobDir) -> None:
    first = CommandLog(job_dir, Clock(100.0))
    first.worker_died()
    first.worker_died()
    CommandLog(job_dir, Clock(200.0)).server_died()
    starts = read_history(job_dir, "a").starts
    assert [(start.worker_deaths, start.server_deaths) for start in starts] == [(2, 0), (0, 1)]


def test_a_job_without_history_has_none(job_dir: JobDir) -> None:
    assert read_history(job_dir, "a").attempts == ()
    assert read_history(job_dir, "a").busy_seconds() == 0.0


def test_what_a_zombie_of_a_replaced_job_writes_is_not_this_jobs(job_dir: JobDir) -> None:
    log(job_dir, Clock(100.0), token=1, job="before").note()
    log(job_dir, Clock(100.0), token=2).note()
    assert [attempt.token for attempt in read_history(job_dir, "a").attempts] == [2]
