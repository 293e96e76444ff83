"""What a worker serves of the server: asked for every few seconds, and not told once it is old."""

from collections.abc import Callable
from typing import cast

import pytest
import redis

from queue_app.worker.device_worker import NO_WORKER
from queue_app.worker.metrics.backlog import Backlog, BacklogReader
from queue_app.worker.metrics.counters import Counters
from queue_app.worker.metrics.gpu_gauge import GpuGauge
from queue_app.worker.metrics.server import READ_SECONDS, STALE_SECONDS, Exporter


class Server:
    """A reader that counts how often it was asked, and fails when told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.failure: Exception | None = None

    def read(self) -> Backlog:
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        return Backlog((), {})


def exporter(server: Server, clock: Callable[[], float]) -> Exporter:
    return Exporter(NO_WORKER, Counters(), GpuGauge(), cast(BacklogReader, server), clock)


def test_the_server_is_asked_every_few_seconds_however_often_one_scrapes() -> None:
    now, server = 0.0, Server()
    watched = exporter(server, lambda: now)
    for now in range(20):  # noqa: B007
        watched.note(has_child=True)
        for _ in range(10):
            assert watched.backlog() is not None
            assert watched.is_up()
    assert server.asked == 20 / READ_SECONDS


def test_what_has_not_been_heard_of_for_long_is_not_told() -> None:
    now, server = 0.0, Server()
    watched = exporter(server, lambda: now)
    watched.note(has_child=True)
    server.failure, now = redis.ConnectionError("away"), STALE_SECONDS - 1
    with pytest.raises(redis.ConnectionError):
        watched.note(has_child=True)
    assert watched.backlog() is not None
    now = STALE_SECONDS
    assert watched.backlog() is None
    assert watched.is_up()  # it was registered since
    now = 2 * STALE_SECONDS
    assert not watched.is_up()


def test_what_nobody_expects_on_the_server_does_not_end_the_reconciler() -> None:
    server = Server()
    server.failure = ValueError("no entry of a worker")
    watched = exporter(server, lambda: 0.0)
    watched.note(has_child=True)
    assert watched.backlog() is None
    assert watched.is_up()


def test_a_worker_without_a_process_to_compute_in_is_not_up() -> None:
    watched = exporter(Server(), lambda: 0.0)
    watched.note(has_child=False)
    assert not watched.is_up()


def test_a_worker_that_rests_says_so() -> None:
    watched = exporter(Server(), lambda: 0.0)
    for is_resting in (True, False):
        watched.note(has_child=True, is_resting=is_resting)
        found = {metric.name: metric for metric in watched.collect()}
        (sample,) = found["holdfast_worker_resting"].samples
        assert sample.value == is_resting
