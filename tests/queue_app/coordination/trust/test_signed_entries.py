"""With a key nobody believes a job that no one of the fleet made known, or a lease that no holder signed."""

from dataclasses import replace
from pathlib import Path

import pytest
import redis

from checkpoint import CheckpointStore, StaleToken
from queue_app.coordination import keys
from queue_app.coordination.dealing import LeaseSeen, tick
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.redis_client import ring_of
from queue_app.coordination.states import Lease, ShardState
from queue_app.coordination.trust.signing import KeyRing
from queue_app.coordination.trust.values import Garbage
from queue_app.job.spec import Job, Progress
from queue_app.worker.drain import request_drain
from queue_app.worker.leases import LeaseWatch, take_away
from queue_app.worker.metrics.counters import Count, counters
from tests.queue_app.worker.test_reconciler import ELSEWHERE, LEASE_SECONDS, worker
from tests.support.blocks_and_stores import make_block, open_store
from tests.support.jobs_and_inputs import make_job

STRANGERS = KeyRing({"stranger": b"x" * 32})


class Observer:
    """Looks at the leases of a real server, with the key of its fleet, by a clock that the test moves."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.now = 1000.0
        self.watch = LeaseWatch(LEASE_SECONDS, lambda: self.now, ring_of(client))

    def look(self, seconds: float = 0.0) -> list[tuple[LeaseSeen, str]]:
        self.now += seconds
        dead = self.watch.dead(tick(self.client, worker("cpu9")).leases)
        for seen, reason in dead:
            assert take_away(self.client, seen, reason)
        return dead


@pytest.fixture
def job() -> Job:
    return make_job(num_shards=2, records_per_shard=10)


@pytest.fixture
def manifest(client: redis.Redis, job: Job) -> CheckpointManifest:
    """Of a fleet with a key: that of the embedded server."""
    assert ring_of(client) is not None
    made = CheckpointManifest(client, job.job_id)
    made.initialize(job, "/jobs/a", {})
    return made


@pytest.fixture
def observer(client: redis.Redis) -> Observer:
    return Observer(client)


def lease_of(manifest: CheckpointManifest, job: Job, floor: int = 0) -> Lease:
    answer = manifest.acquire(job.shards[0], owner=ELSEWHERE, floor=floor, attempt_limit=20)
    assert isinstance(answer, Lease)
    return answer


def state(manifest: CheckpointManifest) -> ShardState:
    status = manifest.shard_status(0)
    assert status is not None
    return status.state


def test_a_job_is_believed_as_it_was_made_known_and_not_otherwise(
    manifest: CheckpointManifest, job: Job, client: redis.Redis
) -> None:
    manifest.require_signed(job)
    with pytest.raises(Garbage, match="signature: no key of this fleet"):
        manifest.require_signed(replace(job, digest="00" * 16))
    client.hset(keys.job(job.job_id), "job_dir", "/another/place")
    with pytest.raises(Garbage):
        manifest.require_signed(job)


def test_a_job_that_a_stranger_made_known_is_not_believed(
    manifest: CheckpointManifest, job: Job, client: redis.Redis
) -> None:
    parts = (job.job_id, "/jobs/a", job.digest, job.sequences_digest, len(job.shards))
    for forged in ("", "x", STRANGERS.sign("job", *parts)):
        client.hset(keys.job(job.job_id), "signature", forged)
        with pytest.raises(Garbage):
            manifest.require_signed(job)
    manifest.initialize(job, "/jobs/a", {})  # announced again by one who has the key
    manifest.require_signed(job)


def test_a_signed_lease_that_beats_never_ends(
    manifest: CheckpointManifest, job: Job, observer: Observer
) -> None:
    lease = lease_of(manifest, job)
    for _ in range(4):
        manifest.beat(lease, Progress())
        assert observer.look(LEASE_SECONDS - 1) == []
    assert state(manifest) is ShardState.RUNNING


def test_an_unsigned_lease_is_nobodys_however_it_beats_and_is_counted(
    manifest: CheckpointManifest, job: Job, observer: Observer
) -> None:
    before = counters.total(Count.UNSIGNED)
    forged = replace(lease_of(manifest, job), signature="")
    for _ in range(3):
        manifest.beat(forged, Progress())
        dead = observer.look(LEASE_SECONDS / 2)
    assert [reason for _, reason in dead] == ["no holder of this fleet has signed the lease within 15 s"]
    assert state(manifest) is ShardState.PENDING
    assert counters.total(Count.UNSIGNED) == before + 1


def test_a_signature_of_another_shard_or_token_is_none(
    manifest: CheckpointManifest, job: Job, observer: Observer
) -> None:
    lease = lease_of(manifest, job)
    other = manifest.acquire(job.shards[1], owner=ELSEWHERE, floor=0, attempt_limit=20)
    assert isinstance(other, Lease)
    for _ in range(3):
        manifest.beat(replace(lease, signature=other.signature), Progress())
        manifest.beat(other, Progress())
        observer.look(LEASE_SECONDS / 2)
    assert state(manifest) is ShardState.PENDING
    assert manifest.running() == [1]


def test_an_old_lease_that_is_put_back_holds_nothing_and_commits_nothing(
    manifest: CheckpointManifest, job: Job, observer: Observer, client: redis.Redis, tmp_path: Path
) -> None:
    """A stranger has seen a signed lease, and puts it back, the shard's line too, once another holds it."""
    old = lease_of(manifest, job)
    manifest.beat(old, Progress())
    names = [f"holdfast:{{{job.job_id}}}:{part}" for part in ("shards", "held", "beats", "signed")]
    kept = {name: str(client.hget(name, "0")) for name in names}
    manifest.release(old, "stopped early", counts=False)
    new = lease_of(manifest, job)
    with open_store(tmp_path / "store", token=new.token) as store:
        for name, text in kept.items():
            client.hset(name, "0", text)
        assert manifest.beat(new) is None, "the holder hears that it has lost the shard"
        with pytest.raises(StaleToken):
            store.commit([make_block(0)], token=old.token)
    for _ in range(3):
        observer.look(LEASE_SECONDS / 2)
    assert state(manifest) is ShardState.PENDING
    assert lease_of(manifest, job, floor=CheckpointStore.floor(tmp_path / "store")).token > new.token


def test_only_who_has_the_key_makes_a_worker_leave_which_nobody_starts_again(client: redis.Redis) -> None:
    leaving = worker("cpu0")
    for forged in ("1.0", "x", "nan", f"1.0 {STRANGERS.sign('drain', leaving.name, leaving.owner, '1.0')}"):
        tick(client, leaving)
        client.hset(keys.DRAIN, leaving.name, forged)
        assert not tick(client, leaving).is_asked_to_leave
    request_drain(client, leaving.name, LEASE_SECONDS)
    assert tick(client, leaving).is_asked_to_leave
    kept = str(client.hget(keys.DRAIN, leaving.name))
    restarted = replace(leaving, owner=ELSEWHERE)
    tick(client, restarted)
    client.hset(keys.DRAIN, leaving.name, kept)
    assert not tick(client, restarted).is_asked_to_leave, "an old request is for a process of before"
