"""A worker in trouble leaves the public queue of its device to others, and comes back by itself."""

from collections.abc import Callable

import pytest

from queue_app.celery_app import make_app
from queue_app.worker.rest import LOOK_SECONDS, Rest, TroubleWatch


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Consumer:
    """Celery's, as far as it is asked: with kombu's own consumer of a real server."""

    def __init__(self, url: str) -> None:
        from celery.worker.consumer import Consumer as Celerys

        self.app = make_app(url)
        self.app.amqp.queues.select("cpu0")
        self.app.amqp.queues.select_add("cpu0@host")
        self.task_consumer = self.app.amqp.TaskConsumer(self.app.connection_for_read().channel())
        self.task_consumer.consume()
        self.cancel_task_queue = Celerys.cancel_task_queue.__get__(self)
        self.add_task_queue = Celerys.add_task_queue.__get__(self)

    def call_soon(self, change: Callable[[str], None], queue: str) -> None:
        change(queue)

    def taken_from(self) -> set[str]:
        taken = {queue.name for queue in self.task_consumer.queues}
        assert taken == set(self.app.amqp.queues.consume_from), "so it is after a lost connection"
        return taken


@pytest.fixture
def consumer(server_url: str) -> Consumer:
    return Consumer(server_url)


@pytest.fixture
def clock() -> Clock:
    return Clock()


# ---- its queues


def test_a_worker_that_rests_takes_nothing_from_the_public_queue_until_its_time_has_come(
    consumer: Consumer, clock: Clock
) -> None:
    rest = Rest("cpu0", clock)
    rest.step(consumer, float("-inf"))
    assert consumer.taken_from() == {"cpu0", "cpu0@host"}
    for _ in range(2):
        rest.step(consumer, until=105.0)
        assert rest.is_resting
        assert consumer.taken_from() == {"cpu0@host"}, "what is dealt to it is of a job that it can do"
    clock.now = 105.0
    for _ in range(2):
        rest.step(consumer, until=105.0)
        assert not rest.is_resting
        assert consumer.taken_from() == {"cpu0", "cpu0@host"}


def test_while_there_is_no_connection_nothing_is_changed_and_it_is_caught_up_on_later(
    consumer: Consumer, clock: Clock
) -> None:
    rest, connected = Rest("cpu0", clock), consumer.task_consumer
    consumer.task_consumer = None
    rest.step(consumer, until=105.0)
    assert rest.is_resting
    consumer.task_consumer = connected
    rest.step(consumer, until=105.0)
    assert consumer.taken_from() == {"cpu0@host"}


# ---- until when


class Server:
    """What it answers, and how often it was asked."""

    def __init__(self, answer: float | None) -> None:
        self.answer = answer
        self.num_asked = 0

    def __call__(self) -> float | None:
        self.num_asked += 1
        return self.answer


def test_a_worker_without_trouble_asks_the_server_once(clock: Clock) -> None:
    watch, server = TroubleWatch(lambda: 0.0, clock), Server(None)
    for _ in range(100):
        assert watch.until(server) <= clock.now
        clock.now += 1.0
    assert server.num_asked == 1


def test_trouble_is_asked_about_at_once_and_then_seldom(clock: Clock) -> None:
    num_troubles = [0.0]
    watch, server = TroubleWatch(lambda: num_troubles[0], clock), Server(None)
    watch.until(server)
    num_troubles[0], server.answer = 1.0, 60.0
    assert watch.until(server) == clock.now + 60
    for _ in range(int(LOOK_SECONDS) - 1):
        clock.now += 1.0
        assert watch.until(server) > clock.now
    assert server.num_asked == 2
    clock.now += 1.0
    server.answer = 3.0  # it was left alone meanwhile
    assert watch.until(server) == clock.now + 3
    assert server.num_asked == 3


def test_when_the_rest_is_over_it_is_asked_again_and_trouble_of_an_earlier_life_counts(clock: Clock) -> None:
    watch, server = TroubleWatch(lambda: 0.0, clock), Server(4.0)
    assert watch.until(server) == clock.now + 4
    clock.now += 4.0
    server.answer = 0.0
    assert watch.until(server) <= clock.now
    clock.now += LOOK_SECONDS
    server.answer = 4.0
    assert watch.until(server) == clock.now + 4
