"""The figures that a worker's beat carries."""

import redis

from queue_app.coordination.dealing import tick
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.states import Lease
from queue_app.coordination.worker_figures import Figures
from queue_app.coordination.workers import Owner, WorkerEntry
from queue_app.job.spec import Progress
from queue_app.status.snapshot import snapshot
from tests.support.jobs_and_inputs import make_job


def test_what_is_no_figures_is_none() -> None:
    assert Figures.decode("") is None
    assert Figures.decode('{"other": 1}') is None
    assert Figures.decode(Figures(1.0, 2.0, fill=0.5).encode()) == Figures(1.0, 2.0, fill=0.5)


def test_a_snapshot_shows_each_worker_with_its_shards_progress_and_figures(client: redis.Redis) -> None:
    job = make_job(num_shards=2, records_per_shard=10)
    manifest = CheckpointManifest(client, job.job_id)
    manifest.initialize(job, "/jobs/a", {})
    for name in ("cpu0@host", "cpu1@host"):
        owner = Owner.current(name).encode()
        tick(client, WorkerEntry(name, name[:4], "cpu", "host", 1, 2, owner))
    lease = manifest.acquire(
        job.shards[1], owner=Owner.current("cpu0@host").encode(), floor=0, attempt_limit=3
    )
    assert isinstance(lease, Lease)
    manifest.beat(lease, Progress(1, 3, 1), Figures(12.0, 900.0, fill=0.97, wait_share=0.01))
    now = snapshot(client, job.job_id, lease_seconds=15)
    assert now is not None
    busy, idle = now.workers
    assert (busy.shard, busy.shard_done, busy.shard_total) == (1, 4, 10)
    assert busy.figures == Figures(12.0, 900.0, fill=0.97, wait_share=0.01)
    assert (idle.shard, idle.figures) == (None, None)
    assert now.tokens_per_second == 900.0
    shown = now.as_json()
    assert shown["tokens_per_second"] == 900.0
    assert shown["workers"][0]["figures"]["fill"] == 0.97


def test_a_beat_without_figures_and_a_new_lease_leave_none_behind(client: redis.Redis) -> None:
    job = make_job(num_shards=1, records_per_shard=10)
    manifest = CheckpointManifest(client, job.job_id)
    manifest.initialize(job, "/jobs/a", {})
    lease = manifest.acquire(job.shards[0], owner="me", floor=0, attempt_limit=3)
    assert isinstance(lease, Lease)
    manifest.beat(lease, None, Figures(1.0, 2.0))
    manifest.release(lease, "test")
    manifest.acquire(job.shards[0], owner="you", floor=0, attempt_limit=3)
    status = manifest.shard_status(0)
    assert status is not None
    assert status.figures is None
