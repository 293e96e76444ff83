"""What a worker counts, and what is left of it when a process dies."""

import os
import signal
from collections.abc import Callable

from queue_app.worker.metrics.counters import Count, Tally
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
    tally = Tally()

    def count_and_die() -> None:
        tally.add(Count.BATCHES, 3)
        os.kill(os.getpid(), signal.SIGKILL)

    for _ in range(2):
        assert os.waitpid(in_child(count_and_die), 0)[1] == signal.SIGKILL
    assert tally.total(Count.BATCHES) == 6


def test_parent_and_child_count_the_same_thing_at_once_and_nothing_is_lost() -> None:
    tally = Tally()

    def count() -> None:
        for _ in range(300_000):
            tally.add(Count.LEASES_EXPIRED)

    child = in_child(count)
    wait_for(lambda: tally.total(Count.LEASES_EXPIRED), "the child to begin")
    count()
    os.waitpid(child, 0)
    assert tally.total(Count.LEASES_EXPIRED) == 600_000


def test_a_child_that_is_killed_while_it_counts_spoils_no_counter() -> None:
    """Each number that was ever there is a whole one: a torn write would show as another."""
    tally = Tally()

    def count_for_ever() -> None:
        while True:
            tally.add(Count.TOKENS_EMBEDDED, 1_000_003)

    for _ in range(20):
        before = tally.total(Count.TOKENS_EMBEDDED)
        child = in_child(count_for_ever)
        try:
            wait_for(lambda: tally.total(Count.TOKENS_EMBEDDED) > before, "the child to count", seconds=20)  # noqa: B023
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        assert tally.total(Count.TOKENS_EMBEDDED) % 1_000_003 == 0


def test_a_commit_counts_in_every_bucket_that_it_fits_in() -> None:
    tally = Tally()
    for seconds in (0.0004, 0.005, 0.3, 99.0):
        tally.observe_commit(seconds)
    commits = dict(tally.commits())
    assert (commits[0.001], commits[0.0025], commits[0.005]) == (1, 1, 2)
    assert (commits[0.5], commits[10.0], commits[float("inf")]) == (3, 3, 4)
    assert tally.total(Count.COMMITTING) == 0.0004 + 0.005 + 0.3 + 99.0


def test_no_counter_shares_its_place_with_another() -> None:
    tally = Tally()
    for number, count in enumerate(Count, start=1):
        tally.add(count, number)
    assert [tally.total(count) for count in Count] == list(range(1, len(Count) + 1))
    assert dict(tally.commits())[float("inf")] == 0
