"""What anybody may have written to the queues does not end the worker that reads them.

One worker for all that needs no other: it goes through everything, and stays the process that it was.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from queue_app.celery_app import make_app
from queue_app.coordination import keys
from tests.campaigns.bad_server.harness import Stage, stage, worker
from tests.support.command_runs import kill_tree
from tests.support.hostile_messages import CELERYS_OWN, JOB_ID, STRANGERS, text_of
from tests.support.waiting import wait_for

GARBAGE = [*STRANGERS.values(), *CELERYS_OWN.values()]


@pytest.fixture(scope="module")
def open_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("open")) as made:
        yield made


@pytest.fixture(scope="module")
def guarded_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Its fleet has a key."""
    with stage(tmp_path_factory.mktemp("guarded"), with_key=True) as made:
        yield made


def wait_until_read(made: Stage) -> None:
    """All queues are empty, and the worker has nothing in hand."""
    queues = [*made.queues, *made.names]
    books = [keys.unacked(name)["unacked_key"] for name in made.names]
    wait_for(lambda: made.client.exists(*queues, *books) == 0, "the worker to read it all")


def send_garbage(made: Stage) -> str:
    """A hostile message of each kind, on both queues of the worker, and then a job; answers what it said."""
    for queue in ("cpu0", *made.names):
        made.client.rpush(queue, *map(text_of, GARBAGE))
    wait_until_read(made)
    made.canary()
    assert made.replaced() == []
    log = made.log()
    for reason in ("too large", "no JSON object", "not JSON in base64", "no task of ours"):
        assert f"dropped: {reason} queue=" in log
    assert log.count("dropped: no JSON object") <= 4, "a flood of lines"
    assert "Traceback" not in log
    assert "onnection to broker lost" not in log
    wait_for(
        lambda: made.log().count("] received") == made.log().count("] succeeded in"),
        "every task that was received to end well",
    )
    return log


def test_a_worker_drops_what_strangers_send_and_does_the_next_job_in_the_same_processes(
    open_stage: Stage,
) -> None:
    log = send_garbage(open_stage)
    assert f"dropped: unknown job={JOB_ID} shard=0" in log  # what is ours but for what Celery would obey
    assert "dropped: not signed for this queue" not in log


def test_with_a_key_strangers_reach_no_task_at_all(guarded_stage: Stage) -> None:
    log = send_garbage(guarded_stage)
    assert "dropped: not signed for this queue" in log
    assert JOB_ID not in log


def test_a_message_that_was_done_is_not_taken_again_where_the_fleet_has_a_key(guarded_stage: Stage) -> None:
    [name] = guarded_stage.names
    with guarded_stage.client.monitor() as monitor:
        guarded_stage.canary()
        sent = first_pushed(monitor, name)
    wait_until_read(guarded_stage)
    guarded_stage.client.rpush(name, sent)
    wait_for(lambda: "dropped: done before" in guarded_stage.log(), "the second one to be dropped")


def first_pushed(monitor: "redis.client.Monitor", queue: str) -> str:
    """The text of the message that was sent to a queue first."""
    while True:
        told = str(monitor.next_command()["command"])
        if told.startswith(f"LPUSH {queue} "):
            return told.removeprefix(f"LPUSH {queue} ")


def test_nobody_gives_a_worker_orders(open_stage: Stage) -> None:
    """Nobody shuts it down, or grows its pool, by remote control."""
    app = make_app(open_stage.url)
    app.control.broadcast("shutdown")
    app.control.broadcast("pool_grow", arguments={"n": 100})
    assert app.control.ping(timeout=1.0) == []
    open_stage.client.publish("/0.celery.pidbox", "[" * 100_000)
    open_stage.canary()
    assert open_stage.replaced() == []
    assert open_stage.client.keys("*pidbox*") == []


def test_a_key_of_another_type_ends_no_worker_and_once_it_is_gone_its_queue_is_read_again(
    open_stage: Stage,
) -> None:
    [name] = open_stage.names
    garbage = ("cpu0", "_kombu.binding.cpu0", *keys.unacked(name).values())
    open_stage.client.mset(dict.fromkeys(garbage, "garbage"))
    wait_for(lambda: "no queue, delete the key" in open_stage.log(), "the worker to say so")
    open_stage.client.delete(*garbage)
    open_stage.canary()
    assert open_stage.replaced() == []


def test_a_worker_that_was_killed_with_a_poisoned_book_is_at_work_again_at_once(tmp_path: Path) -> None:
    with stage(tmp_path) as made:
        [name] = made.names
        kill_tree(made.processes[0].pid)
        book = keys.unacked(name)["unacked_key"]
        lines = [json.dumps([each, "", "cpu0"]) for each in CELERYS_OWN.values()]
        made.client.hset(book, mapping={f"tag{number}": line for number, line in enumerate(lines)})
        made.client.hset(book, mapping={"no list": "7", "nested": "[" * 20_000})
        made.client.zadd(keys.unacked(name)["unacked_index_key"], {"garbage": 1})
        with worker(made, "cpu0") as process:
            wait_for(lambda: made.client.exists(book) == 0, "the worker to read its book")
            made.canary()
            wait_until_read(made)
            assert process.poll() is None
        assert "died" not in made.log()
