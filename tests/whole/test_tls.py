"""A server behind TLS: every part of a fleet verifies it, and whoever stands between learns nothing."""

import contextlib
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from queue_app.celery_app import make_app
from queue_app.coordination.redis_client import check, connect
from queue_app.coordination.workers import live_workers
from queue_app.errors import BrokerUnreachable
from queue_app.settings import runtime_config
from tests.support.certificates import Certificates
from tests.support.command_runs import environment, holdfast, running
from tests.support.jobs_and_inputs import write_fasta
from tests.support.redis_servers import PASSWORDS, RedisServer, redis_program
from tests.support.waiting import wait_for

REDIS = redis_program(6)
pytestmark = pytest.mark.skipif(
    REDIS is None, reason="no redis-server here, and the packaged Valkey has no TLS"
)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("certificates"))


@contextlib.contextmanager
def server(home: Path, tls: Certificates, *, asks_clients: bool = False) -> Iterator[RedisServer]:
    started = RedisServer(home / "server", str(REDIS), tls=tls, asks_clients=asks_clients).start()
    try:
        yield started
    finally:
        started.stop()


@pytest.fixture(scope="module")
def encrypted(certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with server(tmp_path_factory.mktemp("encrypted"), certificates) as started:
        yield started


@pytest.fixture
def trusting(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> Certificates:
    """This process, and what it starts, believe what the authority of the tests has signed."""
    monkeypatch.setenv("HOLDFAST_TLS_CA_FILE", str(certificates.ca_file))
    runtime_config.cache_clear()
    return certificates


def refusal(url: str) -> str:
    """The one line that every command says of such a server."""
    with connect(url) as client, pytest.raises(BrokerUnreachable) as error:
        check(client, url)
    assert PASSWORDS["admin"] not in str(error.value)
    return str(error.value)


def kombu_connects(url: str) -> bool:
    """As a worker's consumer does, and a producer."""
    with make_app(url).connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0, timeout=5)
        return bool(connection.connected)


def test_a_fleet_works_encrypted(encrypted: RedisServer, tmp_path: Path, certificates: Certificates) -> None:
    env = {"HOLDFAST_BROKER_URL": encrypted.url(), "HOLDFAST_TLS_CA_FILE": str(certificates.ca_file)}
    fasta, out, own = write_fasta(tmp_path / "a.fasta", 20), tmp_path / "out.npy", tmp_path / "own.npy"
    with (
        running("worker", "cpu0", output=subprocess.DEVNULL, **env) as worker,
        encrypted.client() as admin,
    ):
        wait_for(lambda: [each for each in live_workers(admin, 60) if each.child_pid], "the worker")
        holdfast("enqueue", fasta, "-m", "mock:8", "-o", out, "--queues", "cpu0", **env)
        assert "done" in holdfast("status", out, "--watch", **env).stdout
        assert np.load(out).shape == (20, 8)
        found = holdfast("doctor", "--job-dir", tmp_path / "x", **env).stdout
        assert f"rediss://:***@127.0.0.1:{encrypted.port}/0" in found
        holdfast("drain", socket.gethostname(), "--wait", **env)
        assert worker.wait(60) == 0
    holdfast("embed", fasta, "-m", "mock:8", "-o", own, "--device", "cpu", "--workers", "1", **env)
    assert np.load(own).shape == (20, 8)


SPELLINGS = ["", "?ssl_cert_reqs=required", "?ssl_cert_reqs=CERT_REQUIRED", "?ssl_check_hostname=true"]


@pytest.mark.parametrize("options", SPELLINGS)
def test_every_spelling_of_a_verified_connection_means_the_same_to_both_libraries(
    options: str, encrypted: RedisServer, trusting: Certificates
) -> None:
    url = encrypted.url() + options
    with connect(url) as client:
        check(client, url)
    assert kombu_connects(url)


def test_the_authority_may_stand_in_the_address(encrypted: RedisServer, certificates: Certificates) -> None:
    url = f"{encrypted.url()}?ssl_cert_reqs=CERT_REQUIRED&ssl_ca_certs={certificates.ca_file}"
    with connect(url) as client:
        check(client, url)
    assert kombu_connects(url)


def test_flower_reads_the_queues_of_an_encrypted_server(
    encrypted: RedisServer, trusting: Certificates
) -> None:
    from flower.utils.broker import Broker

    app = make_app(encrypted.url())
    broker = Broker(app.connection().as_uri(include_password=True), broker_use_ssl=app.conf.broker_use_ssl)

    async def lengths() -> list[dict[str, object]]:
        return list(await broker.queues(["gpu0"]))

    import asyncio

    assert asyncio.run(lengths()) == [{"name": "gpu0", "messages": 0}]


# ---- servers that are not to be believed


def test_a_server_of_an_unknown_authority_is_one_clear_line(encrypted: RedisServer) -> None:
    said = refusal(encrypted.url())
    assert "the server's certificate is not trusted (" in said
    assert "HOLDFAST_TLS_CA_FILE" in said
    assert "\n" not in said


def test_an_expired_certificate_is_said_to_be_expired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expired = Certificates.make(tmp_path / "expired", expired=True)
    monkeypatch.setenv("HOLDFAST_TLS_CA_FILE", str(expired.ca_file))
    runtime_config.cache_clear()
    with man_in_the_middle(expired) as (port, _):
        assert "certificate has expired" in refusal(f"rediss://:{PASSWORDS['admin']}@127.0.0.1:{port}/0")


def test_a_certificate_of_another_host_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Certificates.make(tmp_path / "other", "queue.example")
    monkeypatch.setenv("HOLDFAST_TLS_CA_FILE", str(other.ca_file))
    runtime_config.cache_clear()
    with man_in_the_middle(other) as (port, _):
        said = refusal(f"rediss://:{PASSWORDS['admin']}@127.0.0.1:{port}/0")
    assert "IP address mismatch" in said


def test_a_server_without_tls_is_said_to_have_none(tmp_path: Path) -> None:
    plain = RedisServer(tmp_path, str(REDIS)).start()
    try:
        assert "speaks no TLS" in refusal(plain.url().replace("redis://", "rediss://"))
    finally:
        plain.stop()


def test_a_server_may_ask_its_clients_for_certificates(
    trusting: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server(tmp_path, trusting, asks_clients=True) as asking:
        assert "HOLDFAST_TLS_CERT_FILE" in refusal(asking.url())
        monkeypatch.setenv("HOLDFAST_TLS_CERT_FILE", str(trusting.client_file))
        monkeypatch.setenv("HOLDFAST_TLS_KEY_FILE", str(trusting.client_key))
        runtime_config.cache_clear()
        with connect(asking.url()) as client:
            check(client, asking.url())
        assert kombu_connects(asking.url())


@contextlib.contextmanager
def man_in_the_middle(own: Certificates) -> Iterator[tuple[int, list[bytes]]]:
    """Where he listens, and what he was told inside of TLS by those who believed his certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(own.server_file, own.server_key)
    told: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def listen() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as tls:
                    tls.settimeout(5)
                    told.append(tls.recv(65536))
                connection.close()

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        yield listening.getsockname()[1], told
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def test_a_man_in_the_middle_gets_no_byte_from_either_library(trusting: Certificates, tmp_path: Path) -> None:
    """trusting: an authority of our own is named, and his is another."""
    with man_in_the_middle(Certificates.make(tmp_path)) as (port, told):
        url = f"rediss://hf-worker:{PASSWORDS['worker']}@127.0.0.1:{port}/0"
        refusal(url)
        with pytest.raises(Exception, match="CERTIFICATE_VERIFY_FAILED"):
            kombu_connects(url)
        env = environment(HOLDFAST_BROKER_URL=url, HOLDFAST_TLS_CA_FILE=str(trusting.ca_file))
        celery = [sys.executable, "-m", "celery", "-A", "queue_app", "inspect", "ping", "--timeout", "1"]
        subprocess.run(celery, env=env, capture_output=True, timeout=60)
        for command in ("worker", "status"):
            ended = holdfast(command, *(["cpu0"] if command == "worker" else []), expect=1,
                             HOLDFAST_BROKER_URL=url, HOLDFAST_TLS_CA_FILE=str(trusting.ca_file))  # fmt: skip
            assert "certificate is not trusted" in ended.stderr
            assert len(ended.stderr.splitlines()) == 1
        assert [each for each in told if each] == []


def test_the_man_in_the_middle_of_these_tests_hears_who_believes_him(tmp_path: Path) -> None:
    """Else the test above would prove nothing."""
    his = Certificates.make(tmp_path)
    with man_in_the_middle(his) as (port, told):
        context = ssl.create_default_context(cafile=str(his.ca_file))
        with (
            socket.create_connection(("127.0.0.1", port)) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as tls,
        ):
            tls.sendall(b"AUTH secret")
        wait_for(lambda: told, "what he heard")
    assert told == [b"AUTH secret"]
