"""What is told of queues and jobs, on a real server with messages as Celery sends them."""

import json
from dataclasses import asdict

import pytest
import redis

from queue_app import celery_app
from queue_app.celery_app import EMBED_SHARD, make_app
from queue_app.coordination.dealing import tick
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.states import ShardState
from queue_app.coordination.workers import WorkerEntry
from queue_app.job.spec import Progress
from queue_app.worker.metrics import backlog
from queue_app.worker.metrics.backlog import IN_VIEW_SECONDS, BacklogReader, QueueBacklog
from tests.support.jobs_and_inputs import make_job


class Clock:
    """Stands in for the module `time` of a module."""

    def __init__(self, now: float) -> None:
        self.now = now

    def time(self) -> float:
        return self.now


def add_worker(client: redis.Redis, queue: str) -> None:
    tick(client, WorkerEntry(f"{queue}@here", queue, "cpu", "here", 1, 2, ""))


def send(server_url: str, queue: str) -> None:
    with make_app(server_url) as app:
        app.send_task(EMBED_SHARD, args=["job", 0], queue=queue)


def test_the_age_of_a_queue_is_that_of_the_message_which_is_next(
    client: redis.Redis, server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(1000.0)
    monkeypatch.setattr(celery_app, "time", clock)
    monkeypatch.setattr(backlog, "time", clock)
    add_worker(client, "cpu0")
    send(server_url, "cpu0")
    clock.now = 1090.0
    send(server_url, "cpu0")
    clock.now = 1100.0
    assert BacklogReader(client).read().queues == (QueueBacklog("cpu0", 2, 100.0),)
    client.rpop("cpu0")  # as a worker takes it
    assert BacklogReader(client).read().queues == (QueueBacklog("cpu0", 1, 10.0),)


def test_an_empty_queue_is_shown_with_no_age(client: redis.Redis) -> None:
    add_worker(client, "cpu3")
    assert BacklogReader(client).read().queues == (QueueBacklog("cpu3", 0, 0.0),)


def test_the_queue_of_a_worker_that_died_is_still_shown(client: redis.Redis, server_url: str) -> None:
    client.hset(
        "holdfast:workers",
        "gpu1@gone",
        json.dumps(asdict(WorkerEntry("gpu1@gone", "gpu1", "cuda:0", "gone", 1, 2, ""))),
    )
    send(server_url, "gpu1")
    (queue,) = BacklogReader(client).read().queues
    assert (queue.name, queue.length) == ("gpu1", 1)


@pytest.mark.parametrize(
    "message", ["no message", "{}", '{"headers": {}}', '{"headers": {"sent_at": null}}', "[]", b"\xff\xfe"]
)
def test_a_message_that_does_not_say_when_it_was_sent_has_no_age(
    client: redis.Redis, message: str | bytes
) -> None:
    add_worker(client, "cpu0")
    client.lpush("cpu0", message)
    assert BacklogReader(client).read().queues == (QueueBacklog("cpu0", 1, None),)


def test_a_job_is_shown_with_what_is_done_and_left(client: redis.Redis) -> None:
    job = make_job(num_shards=3, records_per_shard=10)
    done = {0: Progress(sequences_done=8, quarantined=2)}
    CheckpointManifest(client, job.job_id).initialize(job, "/dir", done)
    shown = BacklogReader(client).read().jobs[job.job_id]
    assert (shown.sequences_done, shown.sequences_quarantined, shown.num_left) == (8, 2, 20)
    assert shown.shards[ShardState.DONE] == 1
    assert shown.shards[ShardState.PENDING] == 2


def test_a_job_that_ends_while_it_is_watched_stays_in_view_for_a_while(client: redis.Redis) -> None:
    job, now = make_job(num_shards=1, records_per_shard=10), 0.0
    manifest = CheckpointManifest(client, job.job_id)
    manifest.initialize(job, "/dir", {})
    reader = BacklogReader(client, lambda: now)
    assert len(reader.read().jobs) == 1
    manifest.restore(0, Progress(sequences_done=10))
    assert [each.num_left for each in reader.read().jobs.values()] == [0]
    now = IN_VIEW_SECONDS
    assert reader.read().jobs == {}


def test_a_job_that_ended_before_anyone_watched_is_not_shown(client: redis.Redis) -> None:
    job = make_job(num_shards=1, records_per_shard=10)
    CheckpointManifest(client, job.job_id).initialize(job, "/dir", {0: Progress(sequences_done=10)})
    assert BacklogReader(client).read().jobs == {}


def test_no_more_jobs_are_shown_than_a_database_of_metrics_should_hold(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "JOBS_MOST", 3)
    for number in range(5):
        job = make_job(num_shards=1, records_per_shard=10, job_id=f"{number:012x}-cafecafe")
        CheckpointManifest(client, job.job_id).initialize(job, "/dir", {})
    assert list(BacklogReader(client).read().jobs) == [f"{number:012x}-cafecafe" for number in range(3)]
