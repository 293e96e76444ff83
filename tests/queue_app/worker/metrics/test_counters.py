"""What a worker counts, and what is left of it when a process dies."""

import os
import signal
from collections.abc import Callable

from queue_app.worker.metrics.counters import Count, Counters
from tests.support.waiting import wait_for


def in_child(action: Callable[[], object]) -> int:
    """Run in a forked process; answers its pid at once."""
    child = os.fork()
    if child == 0:
        try:
            action()
        finally:
            os._exit(0)
    return child


def test_what_a_killed_child_counted_stays_and_the_next_one_counts_on() -> None:
    counters = Counters()

    def count_and_die() -> None:
        counters.add(Count.BATCHES, 3)
        os.kill(os.getpid(), signal.SIGKILL)

    for _ in range(2):
        assert os.waitpid(in_child(count_and_die), 0)[1] == signal.SIGKILL
    assert counters.total(Count.BATCHES) == 6


def test_parent_and_child_count_the_same_thing_at_once_and_nothing_is_lost() -> None:
    counters = Counters()

    def count() -> None:
        for _ in range(300_000):
            counters.add(Count.LEASES_EXPIRED)

    child = in_child(count)
    wait_for(lambda: counters.total(Count.LEASES_EXPIRED), "the child to begin")
    count()
    os.waitpid(child, 0)
    assert counters.total(Count.LEASES_EXPIRED) == 600_000


def test_a_child_that_is_killed_while_it_counts_spoils_no_counter() -> None:
    """Each number that was ever there is a whole one: a torn write would show as another."""
    counters = Counters()

    def count_for_ever() -> None:
        while True:
            counters.add(Count.TOKENS_EMBEDDED, 1_000_003)

    for _ in range(20):
        before = counters.total(Count.TOKENS_EMBEDDED)
        child = in_child(count_for_ever)
        try:
            wait_for(lambda: counters.total(Count.TOKENS_EMBEDDED) > before, "the child to count", seconds=20)  # noqa: B023
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        assert counters.total(Count.TOKENS_EMBEDDED) % 1_000_003 == 0


def test_a_commit_counts_in_every_bucket_that_it_fits_in() -> None:
    counters = Counters()
    for seconds in (0.0004, 0.005, 0.3, 99.0):
        counters.observe_commit(seconds)
    commits = dict(counters.commits())
    assert (commits[0.001], commits[0.0025], commits[0.005]) == (1, 1, 2)
    assert (commits[0.5], commits[10.0], commits[float("inf")]) == (3, 3, 4)
    assert counters.total(Count.COMMITTING) == 0.0004 + 0.005 + 0.3 + 99.0


def test_no_counter_shares_its_place_with_another() -> None:
    counters = Counters()
    for number, count in enumerate(Count, start=1):
        counters.add(count, number)
    assert [counters.total(count) for count in Count] == list(range(1, len(Count) + 1))
    assert dict(counters.commits())[float("inf")] == 0
