"""Connections to the page that never ask anything."""

import contextlib
import socket
import threading
import urllib.request
from pathlib import Path

import pytest
import redis

from queue_app.dashboard import connections
from queue_app.dashboard.connections import CONNECTIONS_MOST
from queue_app.dashboard.serve import find_place
from tests.support.dashboard_pages import TOKEN, serving

MANY = 300
HALF = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"


def half_open(url: str, sent: bytes) -> socket.socket:
    port = int(url.rpartition(":")[2])
    client = socket.create_connection(("127.0.0.1", port), timeout=30)
    client.sendall(sent)
    return client


def asked(url: str) -> int:
    with urllib.request.urlopen(f"{url}/?token={TOKEN}", timeout=30) as answer:
        return int(answer.status)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_hundreds_of_half_requests_take_no_thread_and_a_whole_one_is_answered(
    server_url: str, client: redis.Redis
) -> None:
    with serving(find_place(None, server_url)) as url, contextlib.ExitStack() as clients:
        assert asked(url) == 200
        threads, files = threading.active_count(), open_files()
        for number in range(MANY):
            clients.enter_context(half_open(url, HALF if number % 2 else b""))
        for _ in range(10):
            assert asked(url) == 200
        assert threading.active_count() <= threads + 1
        assert open_files() - files - MANY <= CONNECTIONS_MOST + 1


@pytest.mark.parametrize("before", [b"", HALF + b"\r\n"], ids=["at once", "behind a whole one"])
def test_half_a_request_is_closed_after_its_time(
    server_url: str, client: redis.Redis, monkeypatch: pytest.MonkeyPatch, before: bytes
) -> None:
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.3)
    with serving(find_place(None, server_url)) as url, half_open(url, before + HALF) as waiting:
        with contextlib.suppress(ConnectionResetError):
            while waiting.recv(4096):
                continue
        assert asked(url) == 200


def test_an_answer_may_take_longer_than_a_request(
    server_url: str, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.3)
    whole = f"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
    with serving(find_place(None, server_url)) as url, half_open(url, whole) as stream:
        seen = b""
        while b"data:" not in seen:
            seen += stream.recv(4096)
        with half_open(url, HALF) as later, contextlib.suppress(ConnectionResetError):
            assert later.recv(1) == b""
        stream.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            assert stream.recv(4096) != b"", "the stream was closed"
