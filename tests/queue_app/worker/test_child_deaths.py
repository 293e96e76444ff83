"""A worker whose children the kernel kills, as for want of memory, is counted and named."""

import os

from queue_app.host.processes import how_it_ended, killed_by
from queue_app.worker.child_deaths import DEATHS_MOST, DeathCount
from queue_app.worker.child_state import ChildState


def computing() -> ChildState:
    """That of a child with the pid of this process."""
    child = ChildState()
    child.begin_batch()
    return child


def test_only_deaths_by_a_signal_outside_of_work_and_without_progress_count() -> None:
    num_batches, at_work, at_rest = [0.0], os.getpid(), os.getpid() + 1
    deaths = DeathCount(computing(), lambda: num_batches[0], lambda: 3)
    assert not any(
        deaths.note(at_work, -9) for _ in range(3 * DEATHS_MOST)
    )  # its batch is under suspicion instead
    assert not any(deaths.note(at_rest, 1) for _ in range(3 * DEATHS_MOST))
    for _ in range(3):
        assert not any(deaths.note(at_rest, -9) for _ in range(DEATHS_MOST - 1))
        num_batches[0] += 1
    assert not any(deaths.note(at_rest, -9) for _ in range(DEATHS_MOST - 1))
    assert deaths.note(at_rest, -9).startswith(
        "killed by signal 9 (SIGKILL), probably out of memory, 5 times before"
    )


def test_a_death_at_work_counts_where_the_kernel_has_killed_for_memory() -> None:
    kills = iter(range(1000))
    at_work = os.getpid()
    deaths = DeathCount(computing(), lambda: 0.0, kills.__next__)
    assert not any(deaths.note(at_work, -11) for _ in range(3 * DEATHS_MOST))
    assert not any(deaths.note(at_work, -9) for _ in range(DEATHS_MOST - 1))
    assert "probably out of memory" in deaths.note(at_work, -9)


def test_the_signal_is_named_and_only_the_kernels_own_means_memory() -> None:
    assert killed_by(11) == "killed by signal 11 (SIGSEGV)"
    assert killed_by(200) == "killed by signal 200"


def test_an_end_is_told_by_its_status_or_its_signal() -> None:
    assert how_it_ended(1) == "ended with exit status 1"
    assert how_it_ended(-6) == "was killed by signal 6 (SIGABRT)"
