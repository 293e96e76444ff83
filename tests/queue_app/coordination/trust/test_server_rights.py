"""What a server does not let its user do is one line: the right, and the user who has it."""

from pathlib import Path

import pytest
import redis

from queue_app.coordination.redis_client import connect
from queue_app.coordination.trust.server_rights import USERS, explain_refusal, user_for
from queue_app.errors import JobNotFound
from queue_app.preflight.check_server import examine_configured
from queue_app.settings import RuntimeConfig
from tests.support.command_runs import holdfast
from tests.support.jobs_and_inputs import write_fasta
from tests.support.redis_servers import RedisServer

CONFIG = RuntimeConfig()


def refused(url: str, *words: str) -> BaseException:
    with connect(url) as client, pytest.raises(redis.ResponseError) as error:
        client.execute_command(*words)
    return error.value


def test_a_command_a_key_and_a_channel_that_are_refused_are_named(guarded: RedisServer) -> None:
    status, worker = guarded.url("status"), guarded.url("worker")
    assert "'set' command" in str(explain_refusal(refused(status, "SET", "holdfast:fleet", "x")))
    assert "key" in str(explain_refusal(refused(worker, "GET", "other")))
    assert "channel" in str(explain_refusal(refused(worker, "PUBLISH", "other", "x")))


def test_what_a_script_is_refused_is_a_refusal_too(guarded: RedisServer) -> None:
    said = explain_refusal(refused(guarded.url("worker"), "EVAL", "return redis.call('flushall')", "0"))
    assert said is not None
    assert "user_script" not in said


def test_what_went_wrong_otherwise_is_none(guarded: RedisServer) -> None:
    assert explain_refusal(refused(guarded.url(), "GET")) is None
    assert explain_refusal(JobNotFound("x")) is None
    assert user_for("verify") is None


def test_a_refusal_is_found_below_what_was_raised_of_it() -> None:
    from kombu.exceptions import OperationalError
    from redis.exceptions import NoPermissionError

    lost = OperationalError("Error 1")
    lost.__cause__ = NoPermissionError("no permissions to run the 'lpush' command")
    assert explain_refusal(lost) == "no permissions to run the 'lpush' command"


@pytest.mark.parametrize("command", ["pause", "enqueue", "worker", "drain"])
def test_every_command_says_in_one_line_which_right_its_user_lacks(
    command: str, guarded: RedisServer, tmp_path: Path
) -> None:
    fasta, out = write_fasta(tmp_path / "a.fasta", 3), tmp_path / "out.npy"
    enqueue = ("enqueue", fasta, "-m", "mock:8", "-o", out, "--queues", "cpu0")
    words = {
        "pause": ("pause", out),
        "enqueue": enqueue,
        "worker": ("worker", "cpu0"),
        "drain": ("drain", "cpu0"),
    }
    if command == "pause":
        holdfast(*enqueue, HOLDFAST_BROKER_URL=guarded.url("producer"))
    ended = holdfast(*words[command], expect=1, HOLDFAST_BROKER_URL=guarded.url("flower"))
    [line] = [line for line in ended.stderr.splitlines() if line.startswith("holdfast: ")]
    assert "Traceback" not in ended.stderr
    assert line.startswith("holdfast: the server refuses: ")
    assert "permissions to" in line or "can't" in line
    assert f"holdfast {command} is for the user {user_for(command)} (deploy/redis/users.acl)" in line


def test_every_command_that_talks_to_a_server_has_its_user() -> None:
    from queue_app.cli.main import COMMANDS

    known = {each.__name__.removesuffix("_file") for members in COMMANDS.values() for each in members}
    named = [command for commands in USERS.values() for command in commands]
    assert len(named) == len(set(named))
    assert set(named) <= known


# ---- the doctor


def test_the_doctor_sees_all_that_it_may_without_info_and_says_who_may_more(guarded: RedisServer) -> None:
    findings = {each.topic: each for each in examine_configured(guarded.url("worker"), CONFIG)}
    assert findings["server"].level == "warning"
    assert "info" in findings["server"].text
    assert "hf-operator" in findings["server"].remedy
    assert {name: findings[name].level for name in ("latency", "clock", "scripts", "workers")} == {
        "latency": "ok", "clock": "ok", "scripts": "ok", "workers": "ok",
    }  # fmt: skip


def test_the_doctor_sees_everything_as_the_operator(guarded: RedisServer) -> None:
    findings = {each.topic: each for each in examine_configured(guarded.url("operator"), CONFIG)}
    assert findings["server"].level == "ok"
    assert {"persistence", "eviction"} <= set(findings)


def test_a_watcher_that_runs_no_script_is_no_problem(guarded: RedisServer) -> None:
    findings = {each.topic: each for each in examine_configured(guarded.url("status"), CONFIG)}
    assert findings["scripts"].level == "warning"
    assert not [each for each in findings.values() if each.level == "problem"]


def test_a_watcher_that_may_not_see_what_was_garbage_is_no_problem(guarded: RedisServer) -> None:
    with guarded.client() as admin:
        admin.execute_command("ACL", "SETUSER", "hf-status", "-hscan")
        findings = {each.topic: each for each in examine_configured(guarded.url("status"), CONFIG)}
        admin.execute_command("ACL", "SETUSER", "hf-status", "+hscan")
    assert findings["garbage"].level == "warning"
    assert not [each for each in findings.values() if each.level == "problem"]


def test_the_doctor_names_the_right_that_is_missing_and_never_advises_all(guarded: RedisServer) -> None:
    problem = [each for each in examine_configured(guarded.url("flower"), CONFIG) if each.level == "problem"]
    assert problem
    assert all("command" in each.text or "key" in each.text for each in problem)
    advice = " ".join(each.remedy for each in examine_configured(guarded.url("flower"), CONFIG))
    assert "all commands" not in advice
    assert "users.acl" in advice
