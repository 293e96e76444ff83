"""The HTTP server of the metrics, under requests that are never whole."""

import contextlib
import socket
import threading
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Gauge

from queue_app.worker.metrics import http_server
from queue_app.worker.metrics.http_server import CONNECTIONS_MOST, MetricsServer

MANY = 300


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    registry = CollectorRegistry()
    Gauge("answer", "What is asked for.", registry=registry).set(42)
    with MetricsServer("127.0.0.1", 0, registry) as served:
        served.start()
        yield served
        served.shutdown()


def scrape(server: MetricsServer) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics", timeout=30) as answer:
        return str(answer.read().decode())


def half_open(server: MetricsServer, sent: bytes) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", server.server_port), timeout=30)
    client.sendall(sent)
    return client


def test_hundreds_of_half_requests_take_few_threads_and_a_whole_one_is_answered(
    server: MetricsServer,
) -> None:
    before = threading.active_count()
    with contextlib.ExitStack() as clients:
        for number in range(MANY):
            clients.enter_context(
                half_open(server, b"GET /metrics HTTP/1.1\r\nHost: x\r\n" if number % 2 else b"")
            )
            assert threading.active_count() - before <= 4 * CONNECTIONS_MOST
        for _ in range(20):
            assert "answer 42.0" in scrape(server)
        assert len(server._open) <= CONNECTIONS_MOST


def test_a_request_that_takes_too_long_is_closed_however_it_trickles(
    server: MetricsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "REQUEST_SECONDS", 0.3)
    with half_open(server, b"GET /metrics HTTP/1.1\r\n") as client:
        client.settimeout(0.05)
        with contextlib.suppress(ConnectionError):
            while True:
                client.sendall(b"a")
                with contextlib.suppress(TimeoutError):
                    if client.recv(1) == b"":
                        break
    assert "answer 42.0" in scrape(server)


def test_what_is_no_request_is_answered_in_order(server: MetricsServer) -> None:
    with half_open(server, b"\x1b[2J\x00\r\n\r\n") as client:
        assert b"400" in client.makefile("rb").read()
    with half_open(server, b"G" * 70_000) as client, contextlib.suppress(ConnectionError):
        assert client.makefile("rb").read() == b""
    assert "answer 42.0" in scrape(server)
