"""The manifest's promises, against a real server."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import fakeredis
import pytest
import redis

from checkpoint.records import QuarantineEntry
from queue_app.coordination import keys
from queue_app.coordination.embedded_server import VALUE_BYTES_MOST
from queue_app.coordination.manifest import ID_MOST, CheckpointManifest
from queue_app.coordination.states import JobState, Lease, Refusal, ShardState
from queue_app.job.spec import Job, Progress
from tests.support.jobs_and_inputs import make_job

LIMIT = 3
LEGAL_TRANSITIONS: Mapping[ShardState, frozenset[ShardState]] = {
    ShardState.PENDING: frozenset(
        {ShardState.RUNNING, ShardState.FAILED, ShardState.CANCELLED, ShardState.DONE}
    ),
    ShardState.RUNNING: frozenset(
        {ShardState.PENDING, ShardState.DONE, ShardState.FAILED, ShardState.CANCELLED}
    ),
    ShardState.DONE: frozenset({ShardState.PENDING}),
    ShardState.FAILED: frozenset({ShardState.PENDING, ShardState.CANCELLED, ShardState.DONE}),
    ShardState.CANCELLED: frozenset({ShardState.PENDING, ShardState.DONE}),
}
"""What manifest.lua allows."""


@pytest.fixture
def job() -> Job:
    return make_job(num_shards=3, records_per_shard=10)


def lease_of(manifest: CheckpointManifest, job: Job, index: int = 0, *, floor: int = 0) -> Lease:
    answer = manifest.acquire(job.shards[index], owner="me", floor=floor, attempt_limit=LIMIT)
    assert isinstance(answer, Lease)
    return answer


def state(manifest: CheckpointManifest, index: int = 0) -> ShardState:
    status = manifest.shard_status(index)
    assert status is not None
    return status.state


def finish(manifest: CheckpointManifest, job: Job, index: int) -> object:
    return manifest.complete(lease_of(manifest, job, index), Progress(1, 10, 0))


def test_every_shard_of_a_new_job_is_pending(manifest: CheckpointManifest) -> None:
    status = manifest.job_status()
    assert status is not None
    assert status.state is JobState.RUNNING
    assert status.shards[ShardState.PENDING] == status.num_shards == 3
    assert status.sequences_total == 30


def test_initializing_twice_changes_nothing(manifest: CheckpointManifest, job: Job) -> None:
    lease_of(manifest, job)
    before = manifest.job_status()
    manifest.initialize(job, "/jobs/a", {})
    assert manifest.job_status() == before
    assert state(manifest) is ShardState.RUNNING


def test_a_leased_shard_is_not_given_twice(manifest: CheckpointManifest, job: Job) -> None:
    lease = lease_of(manifest, job)
    answer = manifest.acquire(job.shards[0], owner="you", floor=0, attempt_limit=LIMIT)
    assert answer == Refusal("held", (str(lease.token), "me"))


def test_a_replayed_acquire_answers_as_the_first_did(manifest: CheckpointManifest, job: Job) -> None:
    asked = [
        manifest.acquire(job.shards[0], owner="me", floor=0, attempt_limit=LIMIT, request="one")
        for _ in range(2)
    ]
    assert asked[0] == asked[1]
    status = manifest.shard_status(0)
    assert status is not None
    assert status.attempts == 1


def test_every_token_is_above_all_earlier_ones(manifest: CheckpointManifest, job: Job) -> None:
    first = lease_of(manifest, job)
    manifest.release(first, "test", counts=False)
    assert lease_of(manifest, job).token > first.token


def test_the_stores_floor_outranks_a_flushed_server(client: redis.Redis, job: Job) -> None:
    client.flushall()
    manifest = CheckpointManifest(client, job.job_id)
    manifest.initialize(job, "/jobs/a", {})
    floor = int(time.time() * 1000) + 1_000_000
    assert lease_of(manifest, job, floor=floor).token == floor + 1


def test_a_flushed_server_gives_no_token_again_that_a_zombie_still_holds(
    manifest: CheckpointManifest, job: Job, client: redis.Redis
) -> None:
    """The zombie has not opened its store yet, so the floor knows nothing of its token."""
    zombie = lease_of(manifest, job)
    client.flushall()
    manifest.initialize(job, "/jobs/a", {})
    lease = lease_of(manifest, job)
    assert lease.token > zombie.token
    assert manifest.beat(zombie) is None


def test_a_beat_with_an_old_token_is_told_that_the_lease_is_lost(
    manifest: CheckpointManifest, job: Job
) -> None:
    old = lease_of(manifest, job)
    manifest.release(old, "test")
    new = lease_of(manifest, job)
    assert manifest.beat(old, Progress(1, 5, 0)) is None
    assert manifest.beat(new, Progress(1, 5, 0)) is JobState.RUNNING


def test_progress_reported_twice_counts_once(manifest: CheckpointManifest, job: Job) -> None:
    lease = lease_of(manifest, job)
    for _ in range(3):
        manifest.beat(lease, Progress(2, 7, 1))
    status = manifest.job_status()
    assert status is not None
    assert (status.sequences_done, status.sequences_quarantined) == (7, 1)


def test_complete_refuses_when_records_are_missing(manifest: CheckpointManifest, job: Job) -> None:
    lease = lease_of(manifest, job)
    assert manifest.complete(lease, Progress(1, 8, 1)) == Refusal("incomplete", ("10",))
    assert state(manifest) is ShardState.RUNNING


def test_complete_refuses_an_old_token(manifest: CheckpointManifest, job: Job) -> None:
    old = lease_of(manifest, job)
    manifest.release(old, "test")
    lease_of(manifest, job)
    assert manifest.complete(old, Progress(1, 10, 0)) == Refusal("lost")


def test_a_replayed_complete_counts_once(manifest: CheckpointManifest, job: Job) -> None:
    lease = lease_of(manifest, job)
    answers = [manifest.complete(lease, Progress(1, 10, 0)) for _ in range(2)]
    assert answers == [(JobState.RUNNING, "workers")] * 2
    status = manifest.job_status()
    assert status is not None
    assert (status.shards[ShardState.DONE], status.sequences_done) == (1, 10)


def test_the_last_complete_ends_the_job(manifest: CheckpointManifest, job: Job) -> None:
    answers = [finish(manifest, job, index) for index in range(3)]
    assert answers == [(JobState.RUNNING, "workers")] * 2 + [(JobState.DONE, "workers")]


def test_a_done_shard_is_refused(manifest: CheckpointManifest, job: Job) -> None:
    finish(manifest, job, 0)
    assert manifest.acquire(job.shards[0], owner="me", floor=0, attempt_limit=LIMIT) == Refusal("done")


def test_attempts_without_a_commit_fail_the_shard_at_the_limit(
    manifest: CheckpointManifest, job: Job
) -> None:
    for _ in range(LIMIT):
        manifest.release(lease_of(manifest, job), "crashed")
    assert manifest.acquire(job.shards[0], owner="me", floor=0, attempt_limit=LIMIT) == Refusal("exhausted")
    assert state(manifest) is ShardState.FAILED


def test_a_commit_starts_the_attempts_anew(manifest: CheckpointManifest, job: Job) -> None:
    for batch in range(2 * LIMIT):
        lease = lease_of(manifest, job)
        manifest.beat(lease, Progress(batch + 1, batch + 1, 0))
        manifest.release(lease, "crashed")
    assert state(manifest) is ShardState.PENDING


def test_finding_earlier_commits_again_is_no_progress(manifest: CheckpointManifest, job: Job) -> None:
    for _ in range(1 + LIMIT):  # the first one did commit
        lease = lease_of(manifest, job)
        manifest.beat(lease)
        manifest.beat(lease, Progress(5, 5, 0))
        manifest.release(lease, "crashed behind the last commit")
    assert manifest.acquire(job.shards[0], owner="me", floor=0, attempt_limit=LIMIT) == Refusal("exhausted")


def test_a_release_from_outside_costs_no_attempt(manifest: CheckpointManifest, job: Job) -> None:
    for _ in range(2 * LIMIT):
        manifest.release(lease_of(manifest, job), "drained", counts=False)
    assert state(manifest) is ShardState.PENDING


def test_a_release_from_outside_earns_no_attempt(manifest: CheckpointManifest, job: Job) -> None:
    lease = lease_of(manifest, job)
    manifest.beat(lease, Progress(1, 1, 0))
    manifest.release(lease, "drained", counts=False)
    status = manifest.shard_status(0)
    assert status is not None
    assert status.attempts == 0


def test_a_job_with_given_up_shards_has_failed_when_the_rest_is_done(
    manifest: CheckpointManifest, job: Job
) -> None:
    manifest.fail(lease_of(manifest, job, 0), "the model says no")
    finish(manifest, job, 1)
    finish(manifest, job, 2)
    status = manifest.job_status()
    assert status is not None
    assert status.state is JobState.FAILED
    assert [s.error for s in manifest.shard_statuses([0])] == ["the model says no"]


def test_revive_gives_failed_and_cancelled_shards_another_chance(
    manifest: CheckpointManifest, job: Job
) -> None:
    manifest.fail(lease_of(manifest, job, 0), "no")
    finish(manifest, job, 1)
    manifest.cancel()
    assert manifest.revive() == 2
    status = manifest.job_status()
    assert status is not None
    assert status.state is JobState.RUNNING
    assert isinstance(manifest.acquire(job.shards[0], owner="me", floor=0, attempt_limit=1), Lease)


def test_a_lease_is_taken_away_only_while_the_observed_beat_stands(
    manifest: CheckpointManifest, job: Job
) -> None:
    lease = lease_of(manifest, job)
    observed = manifest.shard_status(0)
    assert observed is not None
    manifest.beat(lease)
    assert not manifest.expire(0, observed.token, observed.beat, "silent")
    assert manifest.expire(0, observed.token, observed.beat + 1, "silent")
    assert manifest.beat(lease) is None


def test_cancel_takes_the_lease_from_its_holder(manifest: CheckpointManifest, job: Job) -> None:
    lease = lease_of(manifest, job)
    assert manifest.cancel() is JobState.CANCELLED
    assert manifest.beat(lease) is None
    assert manifest.running() == []


def test_no_call_ends_more_than_so_many_leases_and_the_other_holders_hear_of_it(client: redis.Redis) -> None:
    job = make_job(num_shards=502, records_per_shard=10)
    manifest = CheckpointManifest(client, job.job_id)
    manifest.initialize(job, "/jobs/a", {})
    leases = [lease_of(manifest, job, index) for index in range(502)]
    assert manifest.cancel() is JobState.CANCELLED
    assert len(manifest.running()) == 2
    assert Counter(map(manifest.beat, leases)) == {None: 500, JobState.CANCELLED: 2}


def test_cancel_leaves_a_finished_job_alone(manifest: CheckpointManifest, job: Job) -> None:
    for index in range(3):
        finish(manifest, job, index)
    assert manifest.cancel() is JobState.DONE


def test_whoever_asks_for_the_jobs_under_way_reads_no_ended_one(
    manifest: CheckpointManifest, job: Job, client: redis.Redis
) -> None:
    under_way = [client.smembers(keys.UNENDED)]
    for change in (manifest.cancel, manifest.revive, manifest.pause):
        change()
        under_way.append(client.smembers(keys.UNENDED))
    manifest.unpause()
    for index in range(3):
        finish(manifest, job, index)
    under_way.append(client.smembers(keys.UNENDED))
    manifest.reopen(1)
    under_way.append(client.smembers(keys.UNENDED))
    here: set[str] = {job.job_id}
    assert under_way == [here, set(), here, here, set(), here]


def test_a_damaged_result_puts_its_shard_back(manifest: CheckpointManifest, job: Job) -> None:
    for index in range(3):
        finish(manifest, job, index)
    assert manifest.reopen(1)
    status = manifest.job_status()
    assert status is not None
    assert (status.state, status.sequences_done) == (JobState.RUNNING, 20)


def test_the_job_directory_can_declare_a_shard_done(manifest: CheckpointManifest) -> None:
    assert manifest.restore(2, Progress(0, 9, 1))
    status = manifest.job_status()
    assert status is not None
    assert (state(manifest, 2), status.sequences_done, status.sequences_quarantined) == (
        ShardState.DONE,
        9,
        1,
    )


def test_quarantined_records_are_listed_once_their_shard_is_done(
    manifest: CheckpointManifest, job: Job
) -> None:
    entry = QuarantineEntry(3, "sp|P1", 0, "empty sequence")
    manifest.complete(lease_of(manifest, job), Progress(1, 9, 1), [entry])
    assert manifest.quarantine() == [entry]


def test_an_id_that_is_longer_than_a_value_on_a_server_is_listed_by_its_begin(
    manifest: CheckpointManifest, job: Job
) -> None:
    """As `--limit id=N` lets it be; a server refuses a longer value, and whoever reads it does."""
    entry = QuarantineEntry(3, "x" * (VALUE_BYTES_MOST + 1), 0, "empty sequence")
    manifest.complete(lease_of(manifest, job), Progress(1, 9, 1), [entry])
    assert manifest.quarantine() == [replace(entry, id=entry.id[:ID_MOST])]


def test_a_shard_may_set_aside_more_records_than_one_call_can_name(client: redis.Redis) -> None:
    job = make_job(num_shards=1, records_per_shard=9_000)
    manifest = CheckpointManifest(client, job.job_id)
    manifest.initialize(job, "/jobs/a", {})
    entries = [QuarantineEntry(ordinal, f"p{ordinal}", 0, "empty") for ordinal in range(9_000)]
    assert manifest.complete(lease_of(manifest, job), Progress(0, 0, 9_000), entries) == (
        JobState.DONE, "workers",
    )  # fmt: skip
    assert len(manifest.quarantine()) == 9_000


def test_forgetting_a_job_leaves_no_key(manifest: CheckpointManifest, client: redis.Redis, job: Job) -> None:
    finish(manifest, job, 0)
    lease_of(manifest, job, 1)
    manifest.forget()
    assert client.keys("holdfast:{*") == []
    assert client.hexists(keys.JOBS, job.job_id) in (0, False)


def test_an_unknown_shard_is_refused(client: redis.Redis, job: Job) -> None:
    unknown = CheckpointManifest(client, "ffffffffffff-00000000")
    assert unknown.acquire(job.shards[0], owner="me", floor=0, attempt_limit=1) == Refusal("unknown")
    assert unknown.job_status() is None


OPERATIONS = {
    "acquire": lambda m, j: m.acquire(j.shards[0], owner="me", floor=0, attempt_limit=10**6),
    "exhaust": lambda m, j: m.acquire(j.shards[0], owner="me", floor=0, attempt_limit=0),
    "complete": lambda m, j: m.complete(current_lease(m, j), Progress(1, 10, 0)),
    "release": lambda m, j: m.release(current_lease(m, j), "x"),
    "fail": lambda m, j: m.fail(current_lease(m, j), "x"),
    "cancel": lambda m, j: m.cancel(),
    "revive": lambda m, j: m.revive(),
    "reopen": lambda m, j: m.reopen(0),
    "restore": lambda m, j: m.restore(0, Progress(0, 10, 0)),
}


def current_lease(manifest: CheckpointManifest, job: Job) -> Lease:
    status = manifest.shard_status(0)
    assert status is not None
    return Lease(job.shards[0], status.token)


def test_only_legal_transitions_happen_and_every_legal_one_does() -> None:
    """Walks every state by every operation; pure logic, so an in-process server will do."""
    job = make_job(num_shards=1, records_per_shard=10)
    paths = {
        ShardState.PENDING: [],
        ShardState.RUNNING: ["acquire"],
        ShardState.DONE: ["acquire", "complete"],
        ShardState.FAILED: ["acquire", "fail"],
        ShardState.CANCELLED: ["cancel"],
    }
    seen = set()
    for start, path in paths.items():
        for operation in OPERATIONS.values():
            manifest = CheckpointManifest(fakeredis.FakeRedis(decode_responses=True), job.job_id)
            manifest.initialize(job, "/jobs/a", {})
            for step in path:
                OPERATIONS[step](manifest, job)
            assert state(manifest) is start
            operation(manifest, job)
            seen.add((start, state(manifest)))
    legal = {(start, end) for start, ends in LEGAL_TRANSITIONS.items() for end in ends}
    assert {(start, end) for start, end in seen if start is not end} == legal


def test_a_failed_attempt_is_trouble_until_any_shard_gets_on(manifest: CheckpointManifest, job: Job) -> None:
    lease = lease_of(manifest, job)
    manifest.release(lease, "DiskFull: no room", delay_seconds=1)
    assert trouble(manifest) == "shard 0: DiskFull: no room"
    other = lease_of(manifest, job, 1)
    manifest.beat(other, Progress(0, 0, 0))
    assert trouble(manifest) == "shard 0: DiskFull: no room"
    manifest.beat(other, Progress(1, 1, 0))
    assert trouble(manifest) == ""


def test_an_attempt_that_was_ended_from_outside_is_no_trouble(manifest: CheckpointManifest, job: Job) -> None:
    manifest.release(lease_of(manifest, job), "drained", counts=False)
    assert trouble(manifest) == ""


def trouble(manifest: CheckpointManifest) -> str:
    status = manifest.job_status()
    assert status is not None
    return status.trouble
