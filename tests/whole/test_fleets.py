"""Fleets of real workers: one whose server lost its data goes on by itself, and of two over one directory
each does its own jobs. No worker has HOLDFAST_ROOTS unless a test says so."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from queue_app.coordination import keys
from queue_app.coordination.embedded_server import EmbeddedServer
from queue_app.coordination.redis_client import connect
from queue_app.job.output_names import card_paths
from tests.support.command_runs import holdfast, running, status
from tests.support.jobs_and_inputs import write_fasta
from tests.support.waiting import wait_for

NUM_RECORDS = 240
SLOW = ["-m", "mock:16,delay_ms=200", "--toks-per-batch", "512", "--commit-seconds", "0.2"]
NUM_SHARDS = 12
ON_CPU0 = ["--queues", "cpu0", "--shards", str(NUM_SHARDS)]
QUICK = {"HOLDFAST_PRELOAD_TORCH": "0", "HOLDFAST_RESEND_SECONDS": "1"}


@pytest.fixture(scope="module")
def fasta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fasta(tmp_path_factory.mktemp("input") / "proteins.fasta", NUM_RECORDS)


@pytest.fixture(scope="module")
def undisturbed(fasta: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    output = tmp_path_factory.mktemp("undisturbed") / "out.npy"
    holdfast("embed", fasta, "-o", output, *SLOW, "--device", "cpu", "--workers", "1")
    return output.read_bytes()


@pytest.fixture
def broker(server_url: str, client: redis.Redis) -> dict[str, str]:
    """An empty server, for workers and producers."""
    return {"HOLDFAST_BROKER_URL": server_url, **QUICK}


@pytest.fixture
def other_broker(other_server: EmbeddedServer) -> dict[str, str]:
    assert other_server.address is not None
    return {"HOLDFAST_BROKER_URL": other_server.address.url, **QUICK}


@contextlib.contextmanager
def worker(log: Path, **env: str) -> Iterator[None]:
    """A worker of cpu0, whose words go to a file."""
    with log.open("a") as file, running("worker", "cpu0", output=file.fileno(), **env):
        yield


def wait_for_first_shard(job_dir: Path) -> None:
    """Until the job is at work."""

    def num_done() -> int:
        return len(list(job_dir.glob("done/*.json")))

    wait_for(num_done, f"the first shard of {job_dir}")
    assert num_done() < NUM_SHARDS, "it is to be met at work"


def wait_for_output(output: Path) -> bytes:
    """Written by the workers, when all is done."""
    wait_for(card_paths(output)[1].exists, str(output), seconds=120)
    return output.read_bytes()


# ---- a server that lost its data


def test_a_job_goes_on_when_its_server_lost_its_data_though_no_worker_has_roots(
    fasta: Path, undisturbed: bytes, client: redis.Redis, broker: dict[str, str], tmp_path: Path
) -> None:
    output, job_dir = tmp_path / "out.npy", tmp_path / "out.npy.holdfast"
    with worker(tmp_path / "log", **broker):
        holdfast("enqueue", fasta, "-o", output, *SLOW, *ON_CPU0, **broker)
        wait_for_first_shard(job_dir)
        before = client.get(keys.FLEET)
        client.flushall()
        assert wait_for_output(output) == undisturbed
        seen = status(job_dir, **broker)
    assert (seen["state"], seen["sequences"]["done"]) == ("done", NUM_RECORDS)
    assert str(client.get(keys.FLEET)).split()[0] == str(before).split()[0], "the fleet is the same"
    assert (tmp_path / "log").read_text().count("rebuilt from its directory") == 1


@pytest.mark.parametrize("begun", [True, False], ids=["begun", "not begun"])
def test_it_goes_on_when_all_workers_were_started_anew_since(
    fasta: Path,
    undisturbed: bytes,
    client: redis.Redis,
    broker: dict[str, str],
    tmp_path: Path,
    state_home: Path,
    begun: bool,
) -> None:
    """What a worker began is remembered by its host; what none ever began, by the producer's."""
    output, job_dir = tmp_path / "out.npy", tmp_path / "out.npy.holdfast"
    producer = {**broker, "HOLDFAST_STATE": str(tmp_path / "a host without workers")} if begun else broker
    holdfast("enqueue", fasta, "-o", output, *SLOW, *ON_CPU0, **producer)
    if begun:
        with worker(tmp_path / "log", **broker):
            wait_for_first_shard(job_dir)
    client.flushall()
    assert state_home.exists()
    with worker(tmp_path / "log", **broker):
        assert wait_for_output(output) == undisturbed


def test_a_producer_who_came_first_and_knew_nothing_orphans_no_job(
    fasta: Path, undisturbed: bytes, client: redis.Redis, broker: dict[str, str], tmp_path: Path
) -> None:
    first, second = tmp_path / "first.npy", tmp_path / "second.npy"
    holdfast("enqueue", fasta, "-o", first, *SLOW, *ON_CPU0, **broker)
    before = str(client.get(keys.FLEET)).split()[0]
    client.flushall()
    stranger = {**broker, "HOLDFAST_STATE": str(tmp_path / "another host")}
    holdfast("enqueue", fasta, "-o", second, *SLOW, *ON_CPU0, **stranger)
    assert str(client.get(keys.FLEET)).split()[0] != before
    with worker(tmp_path / "log", **broker):
        assert wait_for_output(first) == wait_for_output(second) == undisturbed


# ---- two fleets


def test_two_fleets_over_one_directory_do_each_its_own_jobs(
    fasta: Path,
    undisturbed: bytes,
    client: redis.Redis,
    broker: dict[str, str],
    other_broker: dict[str, str],
    tmp_path: Path,
) -> None:
    """Also when one of them loses its data, and looks for what it has forgotten."""
    jobs = tmp_path / "jobs"
    jobs.mkdir()
    fleets = {"two": other_broker, "one": broker}
    with contextlib.ExitStack() as stack:
        for name, env in fleets.items():
            stack.enter_context(worker(tmp_path / f"{name}.log", HOLDFAST_ROOTS=str(jobs), **env))
        for name, env in fleets.items():
            holdfast("enqueue", fasta, "-o", jobs / f"{name}.npy", *SLOW, *ON_CPU0, **env)
        wait_for_first_shard(jobs / "one.npy.holdfast")
        client.flushall()
        for name in fleets:
            assert wait_for_output(jobs / f"{name}.npy") == undisturbed
    for name, env in fleets.items():
        with connect(env["HOLDFAST_BROKER_URL"]) as server:
            assert list(server.hgetall(keys.JOBS).values()) == [str(jobs / f"{name}.npy.holdfast")]
    logs = {name: (tmp_path / f"{name}.log").read_text() for name in fleets}
    assert [log.count("left alone") for log in logs.values()] == [1, 1], "once, though seen again and again"
    assert {name: log.count("rebuilt from its directory") for name, log in logs.items()} == {
        "one": 1,
        "two": 0,
    }


def test_a_job_whose_server_is_gone_for_good_is_taken_over_by_enqueue(
    fasta: Path,
    undisturbed: bytes,
    broker: dict[str, str],
    other_server: EmbeddedServer,
    other_broker: dict[str, str],
    tmp_path: Path,
) -> None:
    output, job_dir = tmp_path / "out.npy", tmp_path / "out.npy.holdfast"
    command = ["enqueue", fasta, "-o", output, *SLOW, *ON_CPU0]
    with worker(tmp_path / "log", **other_broker):
        holdfast(*command, **other_broker)
        wait_for_first_shard(job_dir)
    other_server.stop()
    with worker(tmp_path / "log", HOLDFAST_ROOTS=str(tmp_path), **broker):
        wait_for(lambda: "left alone" in (tmp_path / "log").read_text(), "a look at the other's job")
        assert "this job was submitted before" in holdfast(*command, **broker).stderr
        assert wait_for_output(output) == undisturbed
