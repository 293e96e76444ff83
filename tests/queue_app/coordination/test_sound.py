"""What strangers put under the server's keys stops at most the job it belongs to, and changes nothing."""

import time
from collections.abc import Callable
from typing import Any, cast

import pytest
import redis
from celery import Celery

from queue_app.coordination import keys
from queue_app.coordination.dealing import deal_to, deal_to_idle, has_work, leave, tick
from queue_app.coordination.manifest import CheckpointManifest, job_statuses, known_jobs
from queue_app.coordination.states import Lease
from queue_app.coordination.trouble import Pauses, TroubleRegister, seconds_to_rest
from queue_app.coordination.trust.values import Garbage
from queue_app.coordination.workers import live_workers
from queue_app.job.spec import Job, Progress
from tests.queue_app.worker.test_reconciler import Sent, worker
from tests.support.hostile_values import FOREIGN, OF_A_JOB, OF_ALL, SCORES, TEXTS, WRONG
from tests.support.jobs_and_inputs import make_job

GOOD = "f123456789ab-00000001"
A = worker("cpu0")


def key(job: Job, part: str) -> str:
    return f"holdfast:{{{job.job_id}}}:{part}"


@pytest.fixture
def good(client: redis.Redis) -> Job:
    """Another job, which is as it should be, and less urgent."""
    job = make_job(num_shards=3, records_per_shard=10, job_id=GOOD)
    CheckpointManifest(client, GOOD).initialize(job, "/jobs/good", {})
    return job


def dealt(client: redis.Redis, **more: Any) -> list[str]:
    """The jobs of the shards that a worker and those that wait are dealt."""
    app = Sent()
    deal_to(client, cast("Celery", app), A, is_idle=True)
    deal_to_idle(client, cast("Celery", app), "cpu")
    return [queue for _, queue in app.shards]


OPERATIONS: dict[str, Callable[[CheckpointManifest, Job, Lease], object]] = {
    "acquire": lambda m, j, _: m.acquire(j.shards[1], owner=A.owner, floor=0, attempt_limit=3),
    "beat": lambda m, j, lease: m.beat(lease, Progress(1, 5, 0)),
    "complete": lambda m, j, lease: m.complete(lease, Progress(1, 10, 0)),
    "release": lambda m, j, lease: m.release(lease, "why"),
    "fail": lambda m, j, lease: m.fail(lease, "why"),
    "give up": lambda m, j, lease: m.fail(lease, "why", whole_job=True),
    "expire": lambda m, j, lease: m.expire(0, lease.token, 0, "why"),
    "restore": lambda m, j, _: m.restore(0, Progress(1, 10, 0)),
    "cancel": lambda m, j, _: m.cancel(),
    "pause": lambda m, j, _: m.pause(),
    "unpause": lambda m, j, _: m.unpause(),
    "revive": lambda m, j, _: m.revive(),
    "again": lambda m, j, _: m.initialize(j, "/jobs/a", {}),
}


def shown(client: redis.Redis, job: Job, *but: str) -> dict[str, object]:
    """All that the server holds of the job."""
    read = {"hash": client.hgetall, "zset": lambda name: client.zrange(name, 0, -1, withscores=True)}
    names = sorted(set(client.scan_iter(f"holdfast:{{{job.job_id}}}:*")) - set(but))
    return {name: read[kind](name) for name in names if (kind := client.type(name)) in read}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("part", [part for part in OF_A_JOB if part not in ("canary", "begun")])
def test_an_operation_that_meets_another_type_changes_nothing_and_names_the_key(
    client: redis.Redis, manifest: CheckpointManifest, job: Job, part: str, operation: str
) -> None:
    if (part, operation) == ("trouble", "revive"):
        return  # begins without it
    lease = manifest.acquire(job.shards[0], owner=A.owner, floor=0, attempt_limit=3)
    assert isinstance(lease, Lease)
    client.delete(key(job, part))
    WRONG["string"](client, key(job, part))
    before = shown(client, job)
    with pytest.raises(Garbage, match=part):
        OPERATIONS[operation](manifest, job, lease)
    told = {"job_dir", "queues", "announced", "signature"}  # what `again` says anew
    after = shown(client, job)
    for fields in (before.get(keys.job(job.job_id), {}), after.get(keys.job(job.job_id), {})):
        for field in told:
            cast("dict[str, str]", fields).pop(field, None)
    assert after == before


@pytest.mark.parametrize(
    "operation", [name for name in OPERATIONS if name not in ("unpause", "again", "revive")]
)
@pytest.mark.parametrize(
    "field", ["pending", "running", "cost_done", "sequences_done", "epoch", "priority", "pace"]
)
def test_an_operation_on_a_count_that_is_none_changes_nothing(
    client: redis.Redis, manifest: CheckpointManifest, job: Job, field: str, operation: str
) -> None:
    lease = manifest.acquire(job.shards[0], owner=A.owner, floor=0, attempt_limit=3)
    assert isinstance(lease, Lease)
    client.hset(keys.job(job.job_id), field, "nan")
    before = shown(client, job)
    with pytest.raises(Garbage, match=rf"holdfast:\{{{job.job_id}\}}:job {field}"):
        OPERATIONS[operation](manifest, job, lease)
    assert shown(client, job) == before


@pytest.mark.parametrize("line", ["", "x", "r", *TEXTS["almost"], "p 10 1000 nan 0 0 0 0 0", "p" * 10_000])
def test_a_shard_that_is_none_is_neither_given_nor_counted(
    client: redis.Redis, manifest: CheckpointManifest, job: Job, line: str
) -> None:
    client.hset(keys.shards(job.job_id), "0", line)
    before = client.hgetall(keys.job(job.job_id))
    with pytest.raises(Garbage, match="shards 0"):
        manifest.acquire(job.shards[0], owner=A.owner, floor=0, attempt_limit=3)
    assert client.hgetall(keys.job(job.job_id)) == before
    if line:
        with pytest.raises(Garbage, match="shards 0"):
            manifest.shard_statuses([0, 1])
    assert [status.index for status in manifest.readable_statuses([0, 1])] == [1], (
        "who watches sees the others"
    )


def test_no_token_from_the_far_future_reaches_a_worker(
    client: redis.Redis, manifest: CheckpointManifest, job: Job
) -> None:
    """It would be written into a store, where nothing lower is accepted any more."""
    later = int(time.time() * 1000) + 31 * 86_400_000
    for name, field, text in (
        (keys.shards(job.job_id), "0", f"p 10 1000 {later} 0 0 0 0 0"),
        (keys.job(job.job_id), "epoch", str(later)),
    ):
        kept = client.hget(name, field)
        client.hset(name, field, text)
        with pytest.raises(Garbage):
            manifest.acquire(job.shards[0], owner=A.owner, floor=0, attempt_limit=3)
        client.hset(name, field, str(kept))
    client.hset(keys.shards(job.job_id), "0", f"r 10 1000 {later} 1 0 0 0 0")
    client.hset(keys.held(job.job_id), "0", f"{later} request 0 0 {A.owner}")
    with pytest.raises(Garbage):
        manifest.acquire(job.shards[0], owner=A.owner, floor=0, attempt_limit=3, request="request")


@pytest.mark.parametrize("part", ["job", "shards", "trouble", "pending", "paces", "dealt"])
def test_a_job_of_garbage_keeps_no_worker_from_another(
    client: redis.Redis, manifest: CheckpointManifest, job: Job, good: Job, part: str
) -> None:
    tick(client, A)
    client.delete(key(job, part))
    WRONG["string"](client, key(job, part))
    assert len(dealt(client)) == 1
    assert client.hget(keys.UNSOUND, job.job_id) == key(job, part)
    assert known_jobs(client).keys() == {job.job_id, GOOD}
    said = job_statuses(client, [job.job_id, GOOD])
    assert not isinstance(said[GOOD], Garbage)


def test_a_job_is_dealt_again_once_its_garbage_is_gone(
    client: redis.Redis, manifest: CheckpointManifest, job: Job
) -> None:
    tick(client, A)
    client.hset(keys.job(job.job_id), "priority", "x")
    assert dealt(client) == []
    with pytest.raises(Garbage):
        manifest.look_again()
    client.hset(keys.job(job.job_id), "priority", "0")
    manifest.look_again()
    assert len(dealt(client)) == 1
    assert client.hlen(keys.UNSOUND) == 0


SETS = [
    name for name, kind in OF_ALL.items() if kind in ("zset", "set", "hash") and name.startswith("holdfast:")
]


@pytest.mark.parametrize("name", SETS)
def test_no_member_of_what_all_share_keeps_a_worker_from_work(
    client: redis.Redis, good: Job, name: str
) -> None:
    tick(client, A)
    for text in [text for texts in TEXTS.values() for text in texts if len(text) < 10_000]:
        for score in SCORES[:2] if OF_ALL[name] == "zset" else (0.0,):
            if OF_ALL[name] == "zset":
                client.zadd(name, {text: score})
            elif OF_ALL[name] == "set":
                client.sadd(name, text)
            else:
                client.hset(name, A.name, text)
                client.hset(name, text, text)
    register = TroubleRegister(client, GOOD, Pauses(1.0, 1.0, 15.0))
    for _ in range(8):  # some at a time
        tick(client, A)
        live_workers(client, 15.0)
        has_work(client, "cpu")
        seconds_to_rest(client, A, register.pauses)
        if dealt(client):
            return
        client.hdel("holdfast:dealt_to", A.name)
    raise AssertionError("it is dealt nothing")


@pytest.mark.parametrize(
    "name", [name for name in OF_ALL if name not in (keys.RECONCILER, keys.FORMER_FLEETS)]
)
def test_what_all_share_is_put_right_where_it_has_another_type(
    client: redis.Redis, good: Job, name: str
) -> None:
    tick(client, A)
    client.delete(name)
    WRONG["list"](client, name)
    CheckpointManifest(client, GOOD).pause()
    CheckpointManifest(client, GOOD).unpause()
    tick(client, A)
    assert len(dealt(client)) == 1
    leave(client, A.name)


def test_what_was_dropped_is_counted_and_told_to_the_workers(client: redis.Redis, good: Job) -> None:
    before = tick(client, A).num_dropped
    client.zadd(keys.LEASES, {"nonsense": 5.0, f"{FOREIGN} x": 6.0})
    tick(client, A)
    assert tick(client, A).num_dropped == before + 2
    assert client.zcard(keys.LEASES) == 0


def test_a_lease_that_was_taken_off_the_ring_is_observed_again(
    client: redis.Redis, manifest: CheckpointManifest, job: Job
) -> None:
    manifest.acquire(job.shards[0], owner=A.owner, floor=0, attempt_limit=3)
    client.delete(keys.LEASES)
    assert [seen.index for seen in tick(client, A).leases] == [0]


def test_a_shard_that_is_not_failed_does_not_hold_up_a_revival_for_ever(
    client: redis.Redis, manifest: CheckpointManifest, job: Job
) -> None:
    client.sadd(key(job, "failed"), "0")
    manifest.revive()
    assert client.scard(key(job, "failed")) == 0


def test_millions_of_shards_that_the_server_claims_cost_nobody_anything(
    client: redis.Redis, manifest: CheckpointManifest, job: Job
) -> None:
    client.hset(keys.job(job.job_id), "num_shards", 9_999_999)
    assert len(list(manifest.every_readable_status(9_999_999))) == len(job.shards)
    assert manifest.cancel() == "cancelled"
    client.hset(keys.job(job.job_id), "num_shards", 30_000_000)
    with pytest.raises(Garbage, match="num_shards"):
        manifest.job_status()
