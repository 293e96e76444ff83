"""A job that the server knows, and of which nothing is done yet."""

import pytest
import redis

from queue_app.coordination.manifest import CheckpointManifest
from queue_app.job.spec import Job
from tests.support.jobs_and_inputs import make_job


@pytest.fixture
def job() -> Job:
    return make_job(num_shards=2, records_per_shard=10)


@pytest.fixture
def manifest(client: redis.Redis, job: Job) -> CheckpointManifest:
    made = CheckpointManifest(client, job.job_id)
    made.initialize(job, "/jobs/a", {})
    return made
