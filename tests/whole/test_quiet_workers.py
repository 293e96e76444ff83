"""What idle workers say to each other and to the server: plain Celery workers, as systemd starts them."""

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from queue_app.celery_app import make_app
from queue_app.coordination import keys
from queue_app.worker.celery_worker import EVENT_HEARTBEAT_SECONDS
from queue_app.worker.kombu_repairs import WAIT_SECONDS
from tests.support.command_runs import QUICK, environment
from tests.support.waiting import wait_for

CELERY = [str(Path(sys.executable).parent / "celery"), "-A", "queue_app", "worker", "-Q"]
QUEUES = ["cpu0", "cpu1"]


@pytest.fixture
def workers(client: redis.Redis, server_url: str, tmp_path: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Two that have registered, on an empty server."""
    env = environment(HOLDFAST_BROKER_URL=server_url, HOLDFAST_PRELOAD_TORCH="0")
    env = {name: value for name, value in env.items() if name not in QUICK}
    with (tmp_path / "workers.log").open("wb") as log:
        started = [
            subprocess.Popen([*CELERY, queue], env=env, stdout=log, stderr=subprocess.STDOUT)
            for queue in QUEUES
        ]
    try:
        wait_for(lambda: client.hlen(keys.WORKERS) == len(QUEUES), "both workers")
        yield started
    finally:
        for worker in started:
            worker.kill()
            worker.wait()


def test_nothing_flows_between_idle_workers_and_flower_hears_them_all_the_same(
    client: redis.Redis, server_url: str, workers: list[subprocess.Popen[bytes]]
) -> None:
    """Gossip would have each worker hear the heartbeats of every other, and remote control everybody."""
    assert client.pubsub_channels() == []
    assert client.pubsub_numpat() == 0
    assert list(client.scan_iter("*pidbox*")) == []
    heard: dict[str, Any] = {}
    app = make_app(server_url)
    with app.connection_for_read() as connection:

        def hear(event: dict[str, Any]) -> None:
            heard[event["hostname"]] = event
            receiver.should_stop = len(heard) == len(QUEUES)

        receiver = app.events.Receiver(connection, handlers={"worker-heartbeat": hear})
        receiver.capture(limit=None, timeout=3 * EVENT_HEARTBEAT_SECONDS, wakeup=False)
    assert {event["freq"] for event in heard.values()} == {EVENT_HEARTBEAT_SECONDS}


def test_an_idle_worker_sends_the_server_two_commands_a_second_at_most(
    client: redis.Redis, workers: list[subprocess.Popen[bytes]]
) -> None:
    """Counted by the questions for a message, of which the server holds each for its time: no clock of ours.

    What a script of the server does is one command of the worker's.
    """
    with client.monitor() as monitor:
        count_commands(monitor, 3 * len(QUEUES))  # while they start
        questions = 10 * len(QUEUES)
        counted = count_commands(monitor, questions)
    assert counted.total() / (questions * WAIT_SECONDS) <= 2, counted


def count_commands(monitor: Any, num_questions: int) -> Counter[str]:
    """Until so many questions were asked."""
    counted = Counter[str]()
    while counted["BRPOP"] < num_questions:
        told = monitor.next_command()
        counted[told["command"].split()[0]] += told["client_type"] != "lua"
    return counted


def test_an_idle_worker_that_is_told_to_end_does_so_in_order(
    workers: list[subprocess.Popen[bytes]],
) -> None:
    for worker in workers:
        worker.send_signal(signal.SIGTERM)
    assert [worker.wait(timeout=60) for worker in workers] == [0, 0]
