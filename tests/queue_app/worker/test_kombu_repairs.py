"""Kombu's own bookkeeping behind the gate: of what strangers write nothing is kept, and nothing put back."""

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis
from celery.worker import state
from kombu import Connection, Queue

from queue_app.coordination import keys
from queue_app.settings import RuntimeConfig
from queue_app.trust.message_gate import EMBED_SHARD, MessageGate, Reason
from queue_app.trust.signing import KeyRing
from queue_app.worker import kombu_repairs
from queue_app.worker.device_worker import NO_WORKER
from queue_app.worker.kombu_repairs import Standstill, Told, TolerantTransport, restore_left_over
from queue_app.worker.metrics.counters import DROPPED, counters
from tests.support.hostile_messages import CELERYS_OWN, STRANGERS, message, text_of

WORKER = replace(NO_WORKER, name="cpu0@here", queue="cpu0")
BOOK = keys.unacked(WORKER.name)
Channel = Any


@pytest.fixture
def channel(server_url: str, client: redis.Redis) -> Iterator[Channel]:
    """One that may hold one message, of the public queue; `taken` are those that reached its consumer."""
    options = {**BOOK, "priority_steps": [0]}
    with Connection(server_url, transport=TolerantTransport, transport_options=options) as connection:
        channel: Any = connection.channel()
        channel.basic_qos(prefetch_count=1)
        channel.taken = []
        Queue("cpu0", channel=channel).declare()
        channel.basic_consume("cpu0", False, channel.taken.append, "tag")
        yield channel


def read(channel: Channel) -> None:
    """As the event loop does once there is an answer of the server."""
    channel.client.connection = channel.client.connection_pool.get_connection()
    try:
        channel._brpop_start(timeout=1)
        channel._brpop_read()
    except kombu_repairs.Empty:
        pass
    finally:
        channel.client.connection_pool.release(channel.client.connection)


def num_dropped(reason: Reason) -> float:
    return counters.total(DROPPED[reason])


def test_a_message_that_is_dropped_is_counted_and_leaves_nothing_reserved(
    channel: Channel, client: redis.Redis
) -> None:
    for kind, hostile in STRANGERS.items():
        before = sum(map(num_dropped, Reason))
        client.rpush("cpu0", text_of(hostile))
        read(channel)
        assert sum(map(num_dropped, Reason)) == before + 1, kind
    assert channel.taken == []
    assert channel.qos.can_consume()
    assert client.exists(*BOOK.values()) == 0


def test_a_message_that_celery_breaks_at_leaves_nothing_reserved(
    channel: Channel, client: redis.Redis
) -> None:
    """Neither with kombu, which may hold one, nor with Celery, which counts it as worked on."""

    class Request:
        id = "x"

    kept = []  # Celery's set is weak

    def break_down(_: object) -> None:
        kept.append(Request())
        state.task_reserved(kept[-1])
        raise TypeError("of this test")

    channel.basic_cancel("tag")
    channel.basic_consume("cpu0", False, break_down, "tag")
    client.rpush("cpu0", json.dumps(message()))
    read(channel)
    assert kept
    assert not kombu_repairs.is_at_work()
    assert channel.qos.can_consume()


def test_what_is_put_back_is_what_the_worker_holds_and_not_what_its_book_says(
    channel: Channel, client: redis.Redis
) -> None:
    client.rpush("cpu0", json.dumps(CELERYS_OWN["row 5: timelimit of two letters"]))
    read(channel)
    [held] = channel.taken
    client.hset(BOOK["unacked_key"], held.delivery_tag, json.dumps([{"a": "stranger's"}, "", "cpu0"]))
    channel.basic_reject(held.delivery_tag, requeue=True)
    [back] = client.lrange("cpu0", 0, -1)
    assert json.loads(back) == held._raw
    assert json.loads(back)["headers"]["task"] == EMBED_SHARD
    assert client.exists(*BOOK.values()) == 0
    assert channel.qos.can_consume()


def test_a_message_that_was_put_back_is_taken_again_and_one_that_was_acknowledged_is_not(
    channel: Channel, client: redis.Redis, server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = KeyRing({"one": b"1" * 32})
    gate = MessageGate(ring)
    monkeypatch.setattr(kombu_repairs, "gate", lambda: gate)
    monkeypatch.setattr("queue_app.celery_app.ring_of_server", lambda password: ring)
    from queue_app.celery_app import make_app

    make_app(server_url).send_task(EMBED_SHARD, args=["0123456789ab-cafecafe", 0], queue="cpu0")
    sent = client.lrange("cpu0", 0, -1)[0]
    read(channel)
    channel.basic_reject(channel.taken[-1].delivery_tag, requeue=True)
    read(channel)
    assert len(channel.taken) == 2
    channel.basic_ack(channel.taken[-1].delivery_tag)
    before = num_dropped(Reason.REPLAYED)
    client.rpush("cpu0", sent)
    read(channel)
    assert len(channel.taken) == 2
    assert num_dropped(Reason.REPLAYED) == before + 1


@pytest.mark.parametrize("wrong", ["unacked_key", "unacked_index_key"])
def test_a_book_of_another_type_keeps_nobody_from_work(
    channel: Channel, client: redis.Redis, wrong: str
) -> None:
    client.set(BOOK[wrong], "garbage")
    client.rpush("cpu0", json.dumps(message()))
    read(channel)
    assert len(channel.taken) == 1
    channel.basic_ack(channel.taken[0].delivery_tag)
    assert channel.qos.can_consume()


def test_an_acknowledgement_that_gets_lost_leaves_the_worker_free(
    channel: Channel, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.rpush("cpu0", json.dumps(message()))
    read(channel)

    def away(*_: object) -> None:
        raise redis.ConnectionError("away")

    monkeypatch.setattr(channel.qos, "_remove_from_indices", away)
    with pytest.raises(redis.ConnectionError):
        channel.basic_ack(channel.taken[0].delivery_tag)
    assert channel.qos.can_consume()


def test_a_queue_of_another_type_ends_nobody_and_is_read_once_it_is_gone(
    channel: Channel, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kombu_repairs, "REFUSED_SECONDS", 0.0)
    client.set("cpu0", "garbage")
    read(channel)
    client.delete("cpu0")
    client.rpush("cpu0", json.dumps(message()))
    read(channel)
    assert len(channel.taken) == 1


def test_nothing_is_restored_because_a_book_says_it_is_old(channel: Channel, client: redis.Redis) -> None:
    client.hset(BOOK["unacked_key"], "tag", json.dumps([message(), "", "cpu0"]))
    client.zadd(BOOK["unacked_index_key"], {"tag": 1, "another": 2})
    channel.qos.restore_visible(num=10, interval=1)
    assert client.llen("cpu0") == 0
    assert client.zcard(BOOK["unacked_index_key"]) == 2  # not even looked at


# ---- the book of an earlier life


def write_book(client: redis.Redis, *lines: str) -> None:
    client.hset(BOOK["unacked_key"], mapping={f"tag{number}": line for number, line in enumerate(lines)})
    client.zadd(BOOK["unacked_index_key"], {"tag0": 1})


def test_what_a_killed_worker_held_is_back_in_its_queue_when_it_starts_again(
    client: redis.Redis, server_url: str
) -> None:
    """As kombu files a delivery that was not acknowledged: its message, its exchange, its queue."""
    for queue in (WORKER.queue, WORKER.name):
        held = message(queue=queue)
        write_book(client, json.dumps([held, "", queue]))
        restore_left_over(WORKER, RuntimeConfig(broker_url=server_url))
        [back] = client.lrange(queue, 0, -1)
        assert json.loads(back)["headers"]["id"] == held["headers"]["id"]
        assert client.exists(*BOOK.values()) == 0


def test_a_poisoned_book_is_dropped_and_does_not_come_back(client: redis.Redis, server_url: str) -> None:
    hostile = [json.dumps([each, "", "cpu0"]) for each in STRANGERS.values() if isinstance(each, dict)]
    lines = [*hostile, "", "7", "[]", "[" * 50_000, json.dumps([message(), "", "another"]), "x" * 10**6]
    write_book(client, *lines)
    restore_left_over(WORKER, RuntimeConfig(broker_url=server_url))
    assert list(client.scan_iter()) == []
    client.hset(BOOK["unacked_key"], "no text", b"\xff\xfe")
    restore_left_over(WORKER, RuntimeConfig(broker_url=server_url))
    assert list(client.scan_iter()) == []


@pytest.mark.parametrize("kind", ["text", "list", "many"])
def test_a_book_that_no_worker_wrote_is_dropped_unread(
    client: redis.Redis, server_url: str, kind: str
) -> None:
    if kind == "text":
        client.set(BOOK["unacked_key"], "x" * 10**6)
    elif kind == "list":
        client.rpush(BOOK["unacked_key"], "x")
    else:
        write_book(client, *[json.dumps([message(), "", "cpu0"])] * 101)
    restore_left_over(WORKER, RuntimeConfig(broker_url=server_url))
    assert list(client.scan_iter()) == []


# ---- what is told


def test_a_flood_is_counted_and_told_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    told = Told(lambda: now)
    with caplog.at_level(logging.WARNING):
        for now in (0.0, 1.0, 2.0, 9.0, 10.0):  # noqa: B007
            told.warn("large", "dropped: too large")
        told.warn("other", "dropped: something else")
    assert caplog.messages == [
        "dropped: too large",
        "dropped: too large (3 more since)",
        "dropped: something else",
    ]


def test_a_worker_stands_still_while_messages_wait_and_it_works_on_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    standstill = Standstill(lambda: now)
    for now in (5.0, 10.0, 15.0):
        assert standstill.seconds(has_messages=True) == now
    assert standstill.seconds(has_messages=False) == 0
    now = 20.0
    assert standstill.seconds(has_messages=True) == 5
    monkeypatch.setattr(state, "reserved_requests", {"a request"})
    assert standstill.seconds(has_messages=True) == 0


def test_a_worker_whose_server_was_away_did_not_stand_still() -> None:
    now = 0.0
    standstill = Standstill(lambda: now)
    now = 1000.0
    assert standstill.seconds(has_messages=True) == 0


def test_a_worker_that_drops_what_it_is_sent_does_not_stand_still() -> None:
    now = 0.0
    standstill = Standstill(lambda: now)
    for now in (5.0, 10.0, 15.0):
        assert standstill.seconds(has_messages=True, num_dropped=now) == 0
    now = 20.0
    assert standstill.seconds(has_messages=True, num_dropped=15.0) == 5
