"""What a holder hears with its beats."""

import pytest
import redis

from queue_app.coordination import keys
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.states import JobState, Lease
from queue_app.worker.leases import Heartbeat
from tests.support.jobs_and_inputs import make_job
from tests.support.waiting import wait_for


@pytest.mark.parametrize("state", [JobState.PAUSED, JobState.CANCELLED, JobState.FAILED])
def test_a_holder_stops_when_its_job_does(client: redis.Redis, state: JobState) -> None:
    job = make_job(num_shards=2, records_per_shard=10)
    manifest = CheckpointManifest(client, job.job_id)
    manifest.initialize(job, "/jobs/a", {})
    lease = manifest.acquire(job.shards[0], owner="me", floor=0, attempt_limit=1)
    assert isinstance(lease, Lease)
    with Heartbeat(manifest, lease, 0.01) as heartbeat:
        wait_for(lambda: manifest.shard_statuses([0])[0].beat > 1, "some beats")
        assert not heartbeat.should_stop()
        client.hset(keys.job(job.job_id), "state", str(state))
        wait_for(heartbeat.should_stop, "the holder to stop")
