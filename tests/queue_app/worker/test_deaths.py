"""A worker whose children the kernel kills, as for want of memory, is counted and named."""

from queue_app.worker.deaths import DEATHS_MOST, ChildDeaths, killed_by


def test_only_deaths_by_a_signal_outside_of_work_and_without_progress_count() -> None:
    num_batches, at_work = [0.0], {7}
    deaths = ChildDeaths(at_work.__contains__, lambda: num_batches[0], lambda: 3)
    assert not any(deaths.note(7, -9) for _ in range(3 * DEATHS_MOST))  # its batch is under suspicion instead
    assert not any(deaths.note(1, 1) for _ in range(3 * DEATHS_MOST))
    for _ in range(3):
        assert not any(deaths.note(1, -9) for _ in range(DEATHS_MOST - 1))
        num_batches[0] += 1
    assert not any(deaths.note(1, -9) for _ in range(DEATHS_MOST - 1))
    assert deaths.note(1, -9).startswith(
        "killed by signal 9 (SIGKILL), probably out of memory, 5 times before"
    )


def test_a_death_at_work_counts_where_the_kernel_has_killed_for_memory() -> None:
    kills = iter(range(1000))
    deaths = ChildDeaths({7}.__contains__, lambda: 0.0, kills.__next__)
    assert not any(deaths.note(7, -11) for _ in range(3 * DEATHS_MOST))
    assert not any(deaths.note(7, -9) for _ in range(DEATHS_MOST - 1))
    assert "probably out of memory" in deaths.note(7, -9)


def test_the_signal_is_named_and_only_the_kernels_own_means_memory() -> None:
    assert killed_by(11) == "killed by signal 11 (SIGSEGV)"
    assert killed_by(200) == "killed by signal 200"
