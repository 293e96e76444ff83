"""A server's password: in no list of processes, in no log, and in no word about an address that is none."""

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis

from queue_app.coordination.embedded_server import EmbeddedServer
from queue_app.coordination.workers import live_workers
from tests.support import ROOT
from tests.support.command_runs import HOLDFAST, environment, running
from tests.support.jobs_and_inputs import write_fasta
from tests.support.redis_servers import under_its_user
from tests.support.waiting import wait_for

SECRET = "s3cretXYZ"
CELERY = [sys.executable, "-P", "-m", "queue_app.worker", "-A", "queue_app", "worker", "-Q", "cpu0"]
MISTYPED = [
    f"redis:/:{SECRET}@127.0.0.1:1/0",
    f"redis://:{SECRET}/@127.0.0.1:1/0",
]


@pytest.mark.parametrize("url", MISTYPED)
def test_no_command_repeats_a_mistyped_address(tmp_path: Path, url: str) -> None:
    enqueue = [
        "enqueue",
        str(write_fasta(tmp_path / "a.fasta", 3)),
        "-m",
        "mock:8",
        "-o",
        str(tmp_path / "o.npy"),
    ]
    for command in (
        [*HOLDFAST, *enqueue, "--queues", "cpu0"],
        [*HOLDFAST, "doctor", "--job-dir", str(tmp_path)],
        [*HOLDFAST, "status", "0123456789ab-cafecafe"],
        [*HOLDFAST, "worker", "cpu0"],
        CELERY,
    ):
        env = environment(HOLDFAST_BROKER_URL=url, HOLDFAST_PRELOAD_TORCH="0")
        ended = subprocess.run(command, capture_output=True, text=True, env=env, timeout=60)
        said = ended.stdout + ended.stderr
        assert ended.returncode != 0, command
        assert SECRET not in said, command
        assert "Traceback" not in said, command
        assert "HOST:PORT" in said, command


def command_lines() -> dict[int, bytes]:
    """Of every process that there is."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            found[int(process.name)] = (process / "cmdline").read_bytes()
        except OSError:
            continue  # it has ended
    return found


@pytest.mark.parametrize("way", ["file", "environment", "argument"])
def test_a_password_reaches_the_workers_and_stands_in_no_list_of_processes(
    tmp_path: Path, server: EmbeddedServer, client: redis.Redis, way: str
) -> None:
    """But for the command in which a user has written it."""
    assert server.address is not None
    _, settings = under_its_user(["worker"], {"HOLDFAST_BROKER_URL": server.address.url})
    url = settings["HOLDFAST_BROKER_URL"]
    password = urlsplit(url).password
    assert password is not None
    bare = url.replace(f":{password}@", "@").replace("://@", "://")
    (tmp_path / "password").write_text(f"{password}\n")
    arguments: list[str] = []
    settings["HOLDFAST_PRELOAD_TORCH"] = "0"
    if way == "file":
        settings |= {"HOLDFAST_BROKER_URL": bare, "HOLDFAST_BROKER_PASSWORD_FILE": str(tmp_path / "password")}
    if way == "argument":
        arguments = ["--broker-url", settings.pop("HOLDFAST_BROKER_URL")]
    log = tmp_path / "log"
    with (
        log.open("w") as output,
        running("worker", "cpu0", *arguments, output=output.fileno(), **settings) as ran,
    ):
        (worker,) = wait_for(lambda: live_workers(client, 5.0), "the worker")
        seen = command_lines()
        assert {ran.pid, worker.pid, worker.child_pid} <= seen.keys()
        telling = {pid for pid, line in seen.items() if password.encode() in line}
        assert telling == ({ran.pid} if way == "argument" else set())
        said = log.read_text() if way != "argument" else ""
        assert password not in said
        assert os.fsencode(password) not in b"".join(command_lines().values()) or way == "argument"
    client.flushall()
    assert password not in log.read_text()


DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "docker-compose.yml",
    *(ROOT / "docs").rglob("*.md"),
    *(path for path in [*(ROOT / "deploy").rglob("*"), *(ROOT / "examples").rglob("*")] if path.is_file()),
]
IN_AN_ARGUMENT = re.compile(
    r"(--broker(-url)?|-b)[ =]['\"]?rediss?://[^ ]*:[^ /]+@|--basic[-_]auth|--requirepass|redis-cli.* -a "
)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_example_has_a_password_in_an_argument(path: Path) -> None:
    text = path.read_bytes().decode(errors="replace")
    found = [line for line in text.splitlines() if IN_AN_ARGUMENT.search(line)]
    assert not [line for line in found if "list of processes" not in line]
