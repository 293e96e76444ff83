"""What a watch shows: one job, its workers in order, its rate, and whether the server is there."""

from pathlib import Path

import pytest
import redis

from queue_app.cli.printing import watched
from queue_app.coordination import keys
from queue_app.coordination.dealing import tick
from queue_app.coordination.embedded_server import EmbeddedServer
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.redis_client import connect
from queue_app.coordination.workers import WorkerEntry, server_time
from queue_app.errors import UsageError
from queue_app.host.processes import ProcessFile
from queue_app.host.queues import Queue
from queue_app.job.directory import JobDir
from queue_app.status.allowance import NOTHING
from queue_app.status.snapshot import snapshot
from queue_app.status.watch import Lookout
from tests.support.jobs_and_inputs import make_job


@pytest.mark.parametrize(("name", "as_json"), [(None, False), ("out.npy", True)])
def test_a_watch_is_of_one_job_and_for_people(name: str | None, as_json: bool) -> None:
    with pytest.raises(UsageError, match="--watch shows one job"):
        watched(name, None, as_json, NOTHING)


def test_a_server_that_is_away_is_told_of_once_and_so_is_its_return(tmp_path: Path) -> None:
    said: list[str] = []
    server = EmbeddedServer(JobDir(tmp_path), ProcessFile(tmp_path / "processes.json"))
    lookout = Lookout(connect(server.start().url), "0" * 12, 15.0, said.append)
    try:
        lookout.look()
        assert said == []
        server.stop()
        assert lookout.look() is lookout.look() is None
        assert [line[:22] for line in said] == ["the server is away (Er"]
        server.start()
        lookout.look()
        lookout.look()
        assert said[1:] == ["the server is back"]
    finally:
        server.stop()


@pytest.mark.parametrize("queues", [("gpu10", "gpu2", "gpu1"), ("cpu1", "gpu3", "cpu0")])
def test_workers_stand_in_the_order_of_their_devices_host_by_host(
    client: redis.Redis, queues: tuple[str, ...]
) -> None:
    job_id = "0123456789ab-cafecafe"
    CheckpointManifest(client, job_id).initialize(
        make_job(num_shards=2, records_per_shard=50), "/nowhere", {}
    )
    for host in ("b", "a"):
        for queue in queues:
            tick(client, WorkerEntry(f"{queue}@{host}", queue, "cpu", host, 1, 2, ""))
    now = snapshot(client, job_id, lease_seconds=15)
    assert now is not None
    ordered = sorted(queues, key=Queue.parse)
    assert [worker.name for worker in now.workers] == [
        f"{queue}@{host}" for host in "ab" for queue in ordered
    ]


def test_a_job_that_is_paused_has_neither_rate_nor_time_left(client: redis.Redis) -> None:
    job_id = "0123456789ab-cafecafe"
    manifest = CheckpointManifest(client, job_id)
    manifest.initialize(make_job(num_shards=2, records_per_shard=50), "/nowhere", {})
    now = server_time(client)
    for seconds in (20, 10, 0):
        client.lpush(keys.samples(job_id), f"{now - seconds:.3f} {30 - seconds} {30 - seconds}")
    before = snapshot(client, job_id, lease_seconds=15)
    assert before is not None
    assert before.rate == pytest.approx(1.0)
    manifest.pause()
    after = snapshot(client, job_id, lease_seconds=15)
    assert after is not None
    assert (after.rate, after.eta_seconds) == (0.0, None)
