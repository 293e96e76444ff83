"""Workers that end by themselves: drained, or with nothing to do. Real processes on a real server."""

from pathlib import Path

import pytest
import redis

from queue_app.coordination import keys
from queue_app.coordination.workers import live_workers
from queue_app.job.directory import JobDir
from tests.support.command_runs import holdfast, running, status
from tests.support.jobs_and_inputs import write_fasta
from tests.support.waiting import wait_for

SLOW = ["-m", "mock:16,delay_ms=200", "--toks-per-batch", "512", "--commit-seconds", "0.2"]


@pytest.fixture
def broker(client: redis.Redis, server_url: str) -> dict[str, str]:
    return {"HOLDFAST_BROKER_URL": server_url, "HOLDFAST_PRELOAD_TORCH": "0"}


@pytest.fixture
def undisturbed(tmp_path: Path) -> Path:
    """A job of some seconds: its input, and its output as nothing happened to it."""
    fasta = write_fasta(tmp_path / "in.fasta", 600)
    holdfast("embed", fasta, "-o", tmp_path / "calm.npy", "-m", "mock:16", *SLOW[2:], "--device", "cpu")
    return tmp_path / "calm.npy"


def names(client: redis.Redis) -> list[str]:
    return [worker.name for worker in live_workers(client, 60) if worker.child_pid]


def enqueue(home: Path, **broker: str) -> Path:
    holdfast("enqueue", home / "in.fasta", "-o", home / "out.npy", *SLOW, "--shards", "4",
             "--queues", "cpu0,cpu1", **broker)  # fmt: skip
    return home / "out.npy.holdfast"


def test_a_drained_worker_leaves_in_order_and_the_other_finishes_the_job_to_the_byte(
    undisturbed: Path, tmp_path: Path, client: redis.Redis, broker: dict[str, str]
) -> None:
    job_dir = enqueue(tmp_path, **broker)
    with running("worker", "cpu0", "cpu1", **broker) as workers:
        wait_for(lambda: len(names(client)) == 2, "both workers")
        job_id = JobDir(job_dir).load().job_id
        wait_for(lambda: client.zcard(keys.running(job_id)) == 2, "both at work")
        leaves, stays = names(client)
        told = holdfast("drain", leaves, "--wait", **broker).stdout
        assert told.splitlines() == [f"{leaves}: asked to drain", f"{leaves}: has left"]
        assert names(client) == [stays]
        assert client.hlen(keys.DRAIN) == 0
        wait_for((tmp_path / "out.npy.card.json").exists, "the output", seconds=120)
        assert names(client) == [stays]
        holdfast("drain", stays, **broker)
        said, _ = workers.communicate(timeout=60)
    assert workers.returncode == 0
    assert said.count("has ended in order; it is not started again") == 2
    assert "lease taken away" not in said
    assert (tmp_path / "out.npy").read_bytes() == undisturbed.read_bytes()


def test_all_workers_of_a_host_are_drained_by_its_name(client: redis.Redis, broker: dict[str, str]) -> None:
    with running("worker", "cpu0", "cpu1", **broker) as workers:
        wait_for(lambda: len(names(client)) == 2, "both workers")
        [host] = {worker.host for worker in live_workers(client, 60)}
        told = holdfast("drain", host, **broker).stdout
        assert told.splitlines() == [f"cpu{index}@{host}: asked to drain" for index in (0, 1)]
        assert workers.wait(timeout=60) == 0


def test_a_name_that_nobody_has_is_refused_with_those_that_there_are(
    client: redis.Redis, broker: dict[str, str]
) -> None:
    assert "no worker is running" in holdfast("drain", "gpu7", expect=2, **broker).stderr
    with running("worker", "cpu0", **broker):
        wait_for(lambda: names(client), "the worker")
        refused = holdfast("drain", "gpu7", expect=2, **broker).stderr
        assert f"there are {names(client)[0]} (host " in refused
        assert client.hlen(keys.DRAIN) == 0


def test_a_request_to_drain_does_not_reach_who_has_the_name_later(
    client: redis.Redis, broker: dict[str, str]
) -> None:
    with running("worker", "cpu0", **broker):
        wait_for(lambda: names(client), "the worker")
        (name,) = names(client)
    client.delete(keys.WORKERS)
    client.hset(keys.DRAIN, name, 1.0)
    with running("worker", "cpu0", **broker) as workers:
        wait_for(lambda: names(client), "the worker")
        assert client.hlen(keys.DRAIN) == 0
        assert workers.poll() is None


def test_an_idle_worker_ends_and_one_with_work_stays_until_it_is_done(
    undisturbed: Path, tmp_path: Path, client: redis.Redis, broker: dict[str, str]
) -> None:
    enqueue(tmp_path, **broker)
    with running("worker", "cpu0", "--exit-when-idle", "1", **broker) as workers:
        said, _ = workers.communicate(timeout=150)
    assert workers.returncode == 0
    assert "there was nothing to do for 1 s" in said
    assert (tmp_path / "out.npy").read_bytes() == undisturbed.read_bytes()


def test_a_worker_waits_for_a_job_of_its_kind_that_nobody_can_take_yet_and_for_no_other(
    tmp_path: Path, client: redis.Redis, broker: dict[str, str]
) -> None:
    """The shards of a GPU's job are nothing to a worker on a processor."""
    write_fasta(tmp_path / "in.fasta", 10)
    holdfast("enqueue", tmp_path / "in.fasta", "-o", tmp_path / "out.npy", "-m", "mock:4",
             "--queues", "gpu0", **broker)  # fmt: skip
    with running("worker", "cpu0", "--exit-when-idle", "1", **broker) as workers:
        assert workers.wait(timeout=60) == 0
    assert status(tmp_path / "out.npy.holdfast", **broker)["shards"]["pending"] > 0
