"""A worker that is started again in another process table, as in a new container, under the same name."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import redis

from queue_app.coordination.workers import live_workers
from tests.support.command_runs import environment, holdfast
from tests.support.jobs_and_inputs import write_fasta
from tests.support.other_host import UNSHARE, can_be_hosts
from tests.support.waiting import wait_for

pytestmark = pytest.mark.skipif(not can_be_hosts(), reason="no namespaces of one's own here")


def container(home: Path, **env: str) -> subprocess.Popen[bytes]:
    """A worker with a process table of its own, that dies with everything in it."""
    worker = f"hostname node1; exec {sys.executable} -m queue_app.cli.main worker cpu0"
    with (home / "log").open("ab") as log:
        return subprocess.Popen(
            [*UNSHARE, "--mount-proc", "bash", "-ec", worker], env=environment(**env), stdout=log, stderr=log
        )


def test_a_worker_goes_on_after_its_lease_where_the_death_of_the_last_one_cannot_be_proved(
    client: redis.Redis, server_url: str, tmp_path: Path
) -> None:
    env = {"HOLDFAST_BROKER_URL": server_url, "HOLDFAST_SCRATCH": str(tmp_path / "scratch")}
    out = tmp_path / "out.npy"
    holdfast("enqueue", write_fasta(tmp_path / "a.fasta", 200), "-m", "mock:8,delay_ms=100", "-o", out,
             "--queues", "cpu0", "--shards", "2", "--toks-per-batch", "512", **env)  # fmt: skip
    first = container(tmp_path, **env)
    try:
        wait_for(lambda: client.keys("*:held"), "a lease")
        [before] = live_workers(client, 60)
    finally:
        first.kill()
        first.wait()
    second = container(tmp_path, **env)
    try:
        wait_for((tmp_path / "out.npy.card.json").exists, "the output")
        after = {worker.host_key for worker in live_workers(client, 60)}
    finally:
        second.kill()
        second.wait()
    assert len(after - {before.host_key}) == 1
    assert np.load(out).shape == (200, 8)
