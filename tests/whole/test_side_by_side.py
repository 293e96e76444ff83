"""A worker has three shards at once: killed or drained in each of these windows it loses nothing, and doubles
nothing. Real processes on a real server, held at the very place where the signal is to strike."""

import os
import re
import signal
from pathlib import Path

import pytest
import redis

from queue_app.coordination import keys
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.states import ShardState
from queue_app.coordination.workers import live_workers
from queue_app.job.directory import JobDir
from queue_app.worker.drain import request_drain
from tests.support import ROOT
from tests.support.command_runs import holdfast, running
from tests.support.jobs_and_inputs import write_fasta
from tests.support.waiting import wait_for

OPTIONS = ["-m", "mock:16,delay_ms=80", "--toks-per-batch", "512", "--commit-seconds", "0.1", "--shards", "4"]
NUM_RECORDS = 400


class House:
    """A job that waits for workers, and the points at which one is to be held."""

    def __init__(self, home: Path, client: redis.Redis, server_url: str) -> None:
        self.home, self.client = home, client
        self.points = home / "points"
        self.points.mkdir()
        hooks = f"{ROOT / 'tests/support/side_by_side'}{os.pathsep}{ROOT}"
        broker = {"HOLDFAST_BROKER_URL": server_url, "HOLDFAST_PRELOAD_TORCH": "0"}
        self.env = {**broker, "HELD_POINTS": str(self.points), "PYTHONPATH": hooks}
        write_fasta(home / "in.fasta", NUM_RECORDS)
        holdfast("embed", home / "in.fasta", "-o", home / "calm.npy", *OPTIONS, "--device", "cpu")
        holdfast("enqueue", home / "in.fasta", "-o", home / "out.npy", *OPTIONS, "--queues", "cpu0", **broker)
        self.manifest = CheckpointManifest(client, JobDir(home / "out.npy.holdfast").load().job_id)

    def arm(self, point: str) -> None:
        (self.points / point).touch()

    def held(self, point: str) -> int:
        """The process that stands at the point, once it does."""
        at = self.points / f"{point}.held"
        wait_for(at.exists, f"a worker at {point}")
        return int(at.read_text().split()[0])

    def let_go(self, point: str) -> None:
        (self.points / f"{point}.go").touch()

    def num_committed(self, index: int) -> int:
        status = self.manifest.shard_status(index)
        return status.sequences_done if status else 0

    def running(self) -> list[int]:
        return self.manifest.running()

    def published_and_computed(self) -> tuple[int, int]:
        """The shard that is held while it is published, and the one that has commits beside it."""
        published = int((self.points / "publishing.held").read_text().split()[1])
        wait_for(lambda: len(self.running()) == 2, "two leases")
        (computed,) = {*self.running()} - {published}
        wait_for(lambda: self.num_committed(computed) > 0, "a commit of the next one")
        return published, computed

    def ends_as_undisturbed(self) -> None:
        """Every record once, to the byte, and none of them set aside."""
        wait_for((self.home / "out.npy.card.json").exists, "the output", seconds=120)
        assert (self.home / "out.npy").read_bytes() == (self.home / "calm.npy").read_bytes()
        assert (self.home / "out.ids.txt").read_bytes() == (self.home / "calm.ids.txt").read_bytes()
        assert not (self.home / "out.npy.quarantine.tsv").exists()


@pytest.fixture
def house(tmp_path: Path, client: redis.Redis, server_url: str) -> House:
    return House(tmp_path, client, server_url)


def test_a_shard_is_published_while_the_next_one_computes(house: House) -> None:
    house.arm("publishing")
    with running("worker", "cpu0", **house.env):
        house.held("publishing")
        first, _ = house.published_and_computed()
        assert house.manifest.shard_status(first).state is ShardState.RUNNING
        house.let_go("publishing")
        house.ends_as_undisturbed()


def test_killed_while_one_is_published_and_the_next_computed_both_are_taken_up_at_once(house: House) -> None:
    house.arm("publishing")
    with running("worker", "cpu0", **house.env, HOLDFAST_LEASE_SECONDS="600"):
        child = house.held("publishing")
        first, following = house.published_and_computed()
        os.kill(child, signal.SIGKILL)
        house.ends_as_undisturbed()
    assert {status.attempts for status in house.manifest.shard_statuses([first, following])} <= {0, 1}


def test_killed_while_a_shard_is_read_ahead_nobody_is_accused_and_it_is_read_by_its_holder(
    house: House,
) -> None:
    house.arm("reading")
    with running("worker", "cpu0", **house.env):
        os.kill(house.held("reading"), signal.SIGKILL)
        house.ends_as_undisturbed()


def test_killed_with_a_lease_that_no_task_has_begun_the_shard_is_taken_up(house: House) -> None:
    house.arm("leased")
    with running("worker", "cpu0", **house.env, HOLDFAST_LEASE_SECONDS="600"):
        child = house.held("leased")
        wait_for(lambda: house.running(), "the lease")
        os.kill(child, signal.SIGKILL)
        house.ends_as_undisturbed()


def test_drained_while_one_is_published_and_the_next_computed_both_are_in_order_when_it_leaves(
    house: House,
) -> None:
    house.arm("publishing")
    with running("worker", "cpu0", **house.env) as worker:
        house.held("publishing")
        first, following = house.published_and_computed()
        name = live_workers(house.client, 60)[0].name
        request_drain(house.client, name, 60)  # at once: the next one must not be through before
        wait_for(lambda: house.running() == [first], "the next one to be given back")
        house.let_go("publishing")
        said, _ = worker.communicate(timeout=60)
        assert worker.returncode == 0, said
    assert not re.search("lease taken away|Traceback", said)
    assert house.running() == []
    assert house.manifest.shard_status(first).state is ShardState.DONE
    left = house.manifest.shard_status(following)
    assert (left.state, left.attempts) == (ShardState.PENDING, 0)
    assert house.client.hlen(keys.held(house.manifest.job_id)) == 0
    with running("worker", "cpu0", **house.env):
        house.ends_as_undisturbed()
