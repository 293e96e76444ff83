"""A worker whose acknowledgement was lost takes messages again. On kombu's own bookkeeping."""

from types import SimpleNamespace

import pytest
from celery.worker import state
from kombu import Connection
from kombu.transport.virtual import QoS

from queue_app.worker.kombu_repairs import LostDeliveries, Standstill

PATIENCE_SECONDS = 30.0


@pytest.fixture
def qos(server_url: str) -> QoS:
    """That of a channel that may hold one message, and does."""
    with Connection(server_url) as connection, connection.channel() as channel:
        made = QoS(channel, prefetch_count=1)
        made.append(SimpleNamespace(), "tag")
        yield made
        made._delivered.clear()


def consumer(qos: QoS) -> SimpleNamespace:
    return SimpleNamespace(task_consumer=SimpleNamespace(channel=SimpleNamespace(qos=qos)))


def test_a_delivery_that_nobody_works_on_stops_a_worker_for_so_long_and_no_longer(qos: QoS) -> None:
    now = 0.0
    deliveries = LostDeliveries(PATIENCE_SECONDS, lambda: now)
    assert deliveries.drop(consumer(qos)) == []
    now = PATIENCE_SECONDS - 1
    assert deliveries.drop(consumer(qos)) == []
    assert not qos.can_consume()
    now = PATIENCE_SECONDS
    assert deliveries.drop(consumer(qos)) == ["tag"]
    assert qos.can_consume()


def test_a_delivery_that_is_worked_on_is_left_alone(qos: QoS, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    deliveries = LostDeliveries(PATIENCE_SECONDS, lambda: now)
    monkeypatch.setattr(state, "active_requests", {"a request"})
    for now in (0, 10 * PATIENCE_SECONDS):  # noqa: B007
        assert deliveries.drop(consumer(qos)) == []
    assert not qos.can_consume()


def test_a_worker_that_is_not_connected_has_nothing_to_drop() -> None:
    assert LostDeliveries(PATIENCE_SECONDS).drop(None) == []


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
