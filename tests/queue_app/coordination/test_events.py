"""What a person is told of a job: every transition that is news, on a real server."""

import redis

from checkpoint.records import QuarantineEntry
from queue_app.coordination.events import EVENTS_KEPT, Event, EventKind, publish, read_events
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.states import Lease
from queue_app.job.spec import Job, Progress

OWNER = "cpu0@host|boot|7|9"


def lease_of(manifest: CheckpointManifest, job: Job, *, limit: int = 20) -> Lease:
    answer = manifest.acquire(job.shards[0], owner=OWNER, floor=0, attempt_limit=limit)
    assert isinstance(answer, Lease)
    return answer


def told(manifest: CheckpointManifest) -> list[tuple[str, str]]:
    return [(str(event.kind), event.text) for event in read_events(manifest.client, manifest.job_id)]


def test_a_lease_that_is_taken_away_is_told_with_its_worker_and_the_reason(
    manifest: CheckpointManifest, job: Job
) -> None:
    lease_of(manifest, job)
    status = manifest.shard_status(0)
    assert status is not None
    manifest.expire(status.index, status.token, status.beat, "no beat for 15 s")
    assert told(manifest) == [("recovered", "shard 0 taken back from cpu0@host: no beat for 15 s")]


def test_a_lease_that_moved_meanwhile_is_no_news(manifest: CheckpointManifest, job: Job) -> None:
    lease = lease_of(manifest, job)
    status = manifest.shard_status(0)
    assert status is not None
    manifest.beat(lease)
    manifest.expire(status.index, status.token, status.beat, "no beat for 15 s")
    assert told(manifest) == []


def test_a_retry_and_a_shard_that_is_given_up_are_told_with_their_errors(
    manifest: CheckpointManifest, job: Job
) -> None:
    manifest.release(lease_of(manifest, job), "DiskFull: no\nroom")
    manifest.fail(lease_of(manifest, job), "not the shard")
    assert told(manifest) == [
        ("retried", "tried again: shard 0: DiskFull: no room"),
        ("failed", "shard 0 given up: not the shard"),
    ]


def test_a_shard_without_progress_is_told_to_be_given_up(manifest: CheckpointManifest, job: Job) -> None:
    manifest.release(lease_of(manifest, job, limit=1), "ValueError: no")
    manifest.acquire(job.shards[0], owner=OWNER, floor=0, attempt_limit=1)
    assert told(manifest)[-1] == (
        "failed", "shard 0 given up after 1 attempts without progress: ValueError: no"
    )  # fmt: skip


def test_a_shard_that_was_stopped_in_order_is_no_news(manifest: CheckpointManifest, job: Job) -> None:
    manifest.release(lease_of(manifest, job), "stopped early", counts=False)
    assert told(manifest) == []


def test_quarantined_records_are_told_once_by_number_and_name(manifest: CheckpointManifest, job: Job) -> None:
    lease = lease_of(manifest, job)
    entries = [QuarantineEntry(3, "p3", 0, "empty sequence"), QuarantineEntry(5, "p5", 0, "empty sequence")]
    for _ in range(2):  # the second is a call repeated after a lost answer
        manifest.complete(lease, Progress(1, 8, 2), entries)
    assert told(manifest) == [("quarantined", "shard 0: record p3 quarantined (empty sequence), and 1 more")]


def test_a_damaged_result_is_told(manifest: CheckpointManifest, job: Job) -> None:
    manifest.complete(lease_of(manifest, job), Progress(1, 10, 0))
    manifest.reopen(0)
    assert told(manifest) == [("damaged", "shard 0 is computed again: its result is missing or damaged")]


def test_only_the_latest_events_are_kept_in_the_order_in_which_they_happened(client: redis.Redis) -> None:
    for number in range(EVENTS_KEPT + 3):
        publish(client, "a", EventKind.WORKER, f"worker {number} died")
    texts = [event.text for event in read_events(client, "a")]
    assert texts == [f"worker {number} died" for number in range(3, EVENTS_KEPT + 3)]


def test_what_manifest_lua_keeps_is_as_much(manifest: CheckpointManifest, job: Job) -> None:
    for _ in range(EVENTS_KEPT + 3):
        manifest.release(lease_of(manifest, job, limit=1000), "again")
    assert len(told(manifest)) == EVENTS_KEPT


def test_a_forgotten_job_leaves_no_events(manifest: CheckpointManifest, job: Job) -> None:
    publish(manifest.client, job.job_id, EventKind.SERVER, "it died")
    manifest.forget()
    assert told(manifest) == []


def test_an_event_is_one_line_whatever_was_said() -> None:
    assert Event.decode("1.500 retried a\n b") == Event(1.5, EventKind.RETRIED, "a b")
