"""deploy/redis/users.acl: each command of Holdfast works under its user, and nothing else does.

What a new version asks of a server for the first time shows here: the server logs every refusal.
"""

import contextlib
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import redis

from queue_app.coordination.redis_client import connect
from queue_app.coordination.script import PARTS
from queue_app.coordination.trust.server_rights import USERS, is_refusal
from queue_app.coordination.workers import live_workers
from tests.support.command_runs import environment, holdfast, running
from tests.support.free_ports import free_ports
from tests.support.jobs_and_inputs import write_fasta
from tests.support.redis_servers import PASSWORDS, USERS_SH, RedisServer, filled_users, programs_with_users
from tests.support.waiting import wait_for

SLOW = "mock:8,delay_ms=100"
LONG = ("--shards", "4", "--toks-per-batch", "512")
REMOTE_CONTROL = re.compile(r"hf-flower key \S+\.reply\.celery\.pidbox$")
SCRIPTED = ("worker", "producer", "operator")


@pytest.fixture
def empty(guarded: RedisServer) -> RedisServer:
    """Without data, and without refusals of earlier tests."""
    with guarded.client() as client:
        client.flushall()
        client.acl_log_reset()
    return guarded


def run(server: RedisServer, *arguments: str | Path, expect: int = 0) -> str:
    """A command under the user that it is for."""
    [user] = [user for user, commands in USERS.items() if arguments[0] in commands]
    ended = holdfast(*arguments, expect=expect, HOLDFAST_BROKER_URL=server.url(user.removeprefix("hf-")))
    return ended.stdout + ended.stderr


@contextlib.contextmanager
def flower(server: RedisServer) -> Iterator[str]:
    """Its address, once it is there."""
    [port] = free_ports(0)
    words = ["-m", "celery", "-A", "queue_app", "flower", "--address=127.0.0.1", f"--port={port}"]
    words.append("--enable-events=false")
    env = environment(HOLDFAST_BROKER_URL=server.url("flower"), FLOWER_UNAUTHENTICATED_API="true")
    process = subprocess.Popen(
        [sys.executable, *words], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )

    def answers() -> bool:
        assert process.poll() is None, process.communicate()[0].decode()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_for(answers, "flower")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.communicate()


def shown(url: str) -> str:
    with urllib.request.urlopen(f"{url}/api/tasks", timeout=30) as answer:
        return str(answer.read().decode())


@pytest.mark.parametrize("guarded", programs_with_users()[:1], indirect=True, ids=["server"])
def test_every_command_works_under_its_own_user_and_the_server_refuses_nothing(
    empty: RedisServer, tmp_path: Path
) -> None:
    fasta = write_fasta(tmp_path / "a.fasta", 200)
    out, stopped, own = (tmp_path / name for name in ("out.npy", "stopped.npy", "own.npy"))
    on = ("--queues", "cpu0", *LONG)
    run(empty, "enqueue", fasta, "-m", "mock:8", "-o", out, *on)
    assert "paused" in run(empty, "pause", out)
    assert "paused" in run(empty, "status", out)
    run(empty, "enqueue", fasta, "-m", "mock:8", "-o", stopped, *on)
    assert "cancelled" in run(empty, "cancel", stopped)
    env = {"HOLDFAST_BROKER_URL": empty.url("worker")}
    with (
        running("worker", "cpu0", output=subprocess.DEVNULL, **env) as worker,
        flower(empty) as flower_url,
        empty.client() as admin,
    ):
        wait_for(lambda: [each for each in live_workers(admin, 60) if each.child_pid], "the worker")
        run(empty, "unpause", out)
        assert "done" in run(empty, "status", out, "--watch")
        wait_for(out.exists, "the output")
        assert np.load(out).shape == (200, 8)
        assert "out.npy" in run(empty, "status")
        run(empty, "quarantine", out)
        wait_for(lambda: "embed_shard" in shown(flower_url), "flower to show a shard")
        assert "cpu0" in run(empty, "drain", socket.gethostname(), "--wait")
        assert worker.wait(60) == 0
    run(empty, "embed", fasta, "-m", "mock:8", "-o", own, "--device", "cpu", "--workers", "1")
    assert np.load(own).shape == (200, 8)
    # Flower asks by remote control too, which is off.
    assert [each for each in empty.refusals() if not REMOTE_CONTROL.search(each)] == []


@pytest.mark.parametrize("guarded", programs_with_users()[-1:], indirect=True, ids=["server"])
def test_a_worker_that_was_killed_is_followed_by_another_without_a_refusal(
    empty: RedisServer, tmp_path: Path
) -> None:
    """Takes the lease away, gives the messages back, forgets the worker."""
    out = tmp_path / "out.npy"
    env = {"HOLDFAST_BROKER_URL": empty.url("worker")}
    with empty.client() as admin:
        with running("worker", "cpu0", output=subprocess.DEVNULL, **env) as worker:
            [entry] = wait_for(
                lambda: [each for each in live_workers(admin, 60) if each.child_pid], "the worker"
            )
            fasta = write_fasta(tmp_path / "a.fasta", 200)
            run(empty, "enqueue", fasta, "-m", SLOW, "-o", out, *LONG)
            wait_for(lambda: admin.keys("*:held"), "a lease")
            worker.send_signal(signal.SIGKILL)
            wait_for(lambda: entry.is_provably_dead(), "the worker's end")
        with running("worker", "cpu0", output=subprocess.DEVNULL, **env):
            wait_for(out.exists, "the output")
    assert empty.refusals() == []


# ---- what is refused

OF_NOBODY = """
    CONFIG GET requirepass; CONFIG SET dir /tmp; CONFIG REWRITE; FLUSHALL; FLUSHDB; KEYS *; SCAN 0;
    RANDOMKEY; DEBUG SLEEP 0; DEBUG OBJECT x; MODULE LIST; MODULE LOAD /tmp/x.so; ACL LIST; ACL WHOAMI;
    ACL SETUSER x; REPLICAOF no one; REPLICAOF 127.0.0.1 1; SCRIPT FLUSH; SCRIPT KILL; SHUTDOWN NOSAVE;
    SAVE; BGSAVE; BGREWRITEAOF; MONITOR; CLIENT LIST; CLIENT KILL 127.0.0.1:1; CLIENT PAUSE 1;
    FUNCTION LIST; FUNCTION FLUSH; FCALL f 0; LATENCY LATEST; MEMORY DOCTOR; SLOWLOG GET; SWAPDB 0 1;
    MIGRATE 127.0.0.1 1 holdfast:jobs 0 1; RESTORE holdfast:x 0 x; DUMP holdfast:jobs; SORT holdfast:jobs;
    OBJECT ENCODING holdfast:jobs; RENAME holdfast:jobs holdfast:x; COPY holdfast:jobs holdfast:x;
    APPEND holdfast:fleet x; SETRANGE holdfast:x 536870911 x; CLUSTER INFO; WAIT 1 1; PUBLISH other x;
    XADD holdfast:x * a b; PFADD holdfast:x a; GET other; SET other x; DEL other; HGETALL other;
    LPUSH other x; LRANGE other 0 -1;  SUBSCRIBE other;
    LPUSH celery x; SADD _other x
"""
"""Commands that no user but admin may run, or not on this key or channel."""

OF_A_ROLE = {
    "status": """
        PUBLISH /0.celery.pidbox x; EVAL return~1 0;
        EVALSHA 0 0; SCRIPT LOAD return~1; SET holdfast:fleet x; DEL holdfast:jobs;
        HSET holdfast:jobs a b; HDEL holdfast:jobs a; LPUSH gpu0 x; LRANGE gpu0 0 -1;
        SMEMBERS _kombu.binding.gpu0; PUBLISH /0.celeryev/x x; PSUBSCRIBE /0.celeryev/*; INFO;
        ZADD holdfast:seen 1 a
    """,
    "flower": """
        GET holdfast:fleet; HGETALL holdfast:jobs; SET holdfast:fleet x; LPUSH gpu0 x;
        LRANGE gpu0 0 -1; BRPOP gpu0 1; DEL gpu0; INFO; SADD holdfast:unended x
    """,
    "producer": """
        PUBLISH /0.celery.pidbox x; BRPOP gpu0 1; RPUSH gpu0 x; PSUBSCRIBE /0.celeryev/*; INFO
    """,
    "operator": """
        PUBLISH /0.celery.pidbox x; BRPOP gpu0 1; RPUSH gpu0 x; SET holdfast:fleet x; PSUBSCRIBE /0.celeryev/*
    """,
    "worker": """
        PUBLISH /0.celery.pidbox x; PSUBSCRIBE /0.celeryev/*; INFO
    """,
}


def commands(text: str) -> list[list[str]]:
    """Their words; ~ is a blank within one."""
    lines = text.replace("\n", " ").split(";")
    return [[word.replace("~", " ") for word in line.split()] for line in lines]


def may_run(client: redis.Redis, *words: str) -> bool:
    """False where the server refuses it for want of a right; what fails otherwise was allowed."""
    try:
        client.execute_command(*words)
    except redis.ResponseError as error:
        return not is_refusal(error) and " not allowed" not in str(error)
    return True


@pytest.mark.parametrize("role", OF_A_ROLE)
def test_each_user_is_refused_what_no_command_of_its_own_needs(role: str, guarded: RedisServer) -> None:
    with connect(guarded.url(role)) as client:
        may = [words for words in commands(f"{OF_NOBODY};{OF_A_ROLE[role]}") if may_run(client, *words)]
    assert may == []


@pytest.mark.parametrize("role", SCRIPTED)
def test_a_script_may_no_more_than_its_caller(role: str, guarded: RedisServer) -> None:
    with connect(guarded.url(role)) as client:
        foreign = ("FLUSHALL", "CONFIG GET dir", "GET other", "KEYS *", "SCRIPT FLUSH", "DEL other")
        script = "return redis.call(unpack(ARGV))"
        may = [line for line in foreign if may_run(client, "EVAL", script, "0", *line.split())]
        assert may_run(client, "EVAL", script, "0", "GET", "holdfast:fleet")
    assert may == []


def test_nobody_is_let_in_without_a_name(guarded: RedisServer) -> None:
    for url in (
        f"redis://127.0.0.1:{guarded.port}/0",
        f"redis://:{PASSWORDS['admin']}@127.0.0.1:{guarded.port}/0",
    ):
        with connect(url) as client, pytest.raises(redis.AuthenticationError):
            client.ping()


# ---- the file


def test_every_command_that_our_script_runs_is_given_to_all_who_run_it(tmp_path: Path) -> None:
    home = files("queue_app.coordination")
    text = "".join((home / part).read_text() for part in PARTS)
    calls = {name.lower() for name in re.findall(r"\b(?:call|pcall)\('([A-Z]+)'", text)}
    assert len(calls) > 20
    users = {line.split()[1]: set(line.split()) for line in filled_users(tmp_path).splitlines()}
    for role in SCRIPTED:
        assert {f"+{name}" for name in calls} - users[f"hf-{role}"] == set(), role


def test_no_password_stands_in_what_the_server_loads(tmp_path: Path) -> None:
    users = filled_users(tmp_path)
    assert not [password for password in PASSWORDS.values() if password in users]
    assert "<" not in users
    assert len(re.findall(r"#[0-9a-f]{64} ", users)) == len(PASSWORDS)


def test_a_user_without_a_password_does_not_exist(tmp_path: Path) -> None:
    (tmp_path / "worker").write_text("secret\n")
    (tmp_path / "status").write_text("\n")
    ended = subprocess.run(["sh", USERS_SH, tmp_path], capture_output=True, text=True, check=True)
    assert [line.split()[1] for line in ended.stdout.splitlines()] == ["default", "hf-worker"]
    assert f"no password in {tmp_path}/status: its user is left out" in ended.stderr
