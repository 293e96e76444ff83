"""The reconciler's promises, on a real server and a clock that the test moves."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest
import redis
from celery import Celery

from checkpoint.process_identity import ProcessId, host_key
from queue_app.celery_app import EXPORT_JOB
from queue_app.coordination import keys
from queue_app.coordination.dealing import tick
from queue_app.coordination.fleet import Fleet, take_job
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.states import Lease, ShardState
from queue_app.coordination.trouble import Pauses, TroubleRegister
from queue_app.coordination.trust.values import Garbage
from queue_app.coordination.workers import Owner, WorkerEntry, live_workers
from queue_app.host.fleet_memory import FleetMemory
from queue_app.job.directory import JobDir
from queue_app.job.spec import Job, Progress
from queue_app.worker.forgotten_jobs import ForgottenJobs
from queue_app.worker.reconciler import EXPORT_PATIENCE, REPLACED, Reconciler
from tests.support.hostile_values import WRONG
from tests.support.jobs_and_inputs import make_job, mark_exported

LEASE_SECONDS = 15.0
RESEND_SECONDS = 30.0
ELSEWHERE = Owner("cpu0@far", "another-boot:1", ProcessId(1, 1)).encode()
DEAD_HERE = Owner("cpu0@here", host_key(), ProcessId(2**22 - 1, 1)).encode()


@dataclass
class Sent:
    """Stands in for the Celery app: each shard with its queue, and the outputs asked for."""

    shards: list[tuple[int, str]] = field(default_factory=list)
    exports: list[tuple[str, str]] = field(default_factory=list)

    @contextlib.contextmanager
    def producer_or_acquire(self) -> Iterator[None]:
        yield

    def send_task(self, name: str, args: Sequence[Any], queue: str, producer: object = None) -> None:
        if name == EXPORT_JOB:
            self.exports.append((args[0], queue))
        else:
            self.shards.append((args[1], queue))

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"nobody should ask the app for {name}")


def worker(queue: str, host: str = "host") -> WorkerEntry:
    owner = Owner(f"{queue}@{host}", f"{host}:1", ProcessId(1, 1)).encode()
    return WorkerEntry(f"{queue}@{host}", queue, "cpu", host, 1, 2, owner)


@dataclass
class World:
    """One job, one observer, and a clock."""

    client: redis.Redis
    job: Job
    now: float = 1000.0
    app: Sent = field(default_factory=Sent)

    def __post_init__(self) -> None:
        self.manifest = CheckpointManifest(self.client, self.job.job_id)
        self.manifest.initialize(self.job, "/jobs/a", {})
        self.reconciler = self.observer()

    def observer(self) -> Reconciler:
        return Reconciler(
            self.client,
            cast("Celery", self.app),
            lease_seconds=LEASE_SECONDS,
            resend_seconds=RESEND_SECONDS,
            clock=lambda: self.now,
        )

    @property
    def sent(self) -> list[tuple[int, str]]:
        return self.app.shards

    def lease(self, owner: str, index: int = 0) -> Lease:
        answer = self.manifest.acquire(self.job.shards[index], owner=owner, floor=0, attempt_limit=20)
        assert isinstance(answer, Lease)
        return answer

    def state(self, index: int = 0) -> ShardState:
        status = self.manifest.shard_status(index)
        assert status is not None
        return status.state

    def look(self, seconds: float = 0.0, *, queue: str = "cpu9", is_idle: bool = False) -> None:
        self.now += seconds
        self.reconciler.step(worker(queue), is_idle=is_idle)


@pytest.fixture
def world(client: redis.Redis) -> World:
    return World(client, make_job(num_shards=3, records_per_shard=10))


def test_a_lease_ends_when_one_observer_saw_the_same_beat_for_its_whole_length(world: World) -> None:
    world.lease(ELSEWHERE)
    world.look()
    world.look(LEASE_SECONDS - 0.1)
    assert world.state() is ShardState.RUNNING
    world.look(0.2)
    assert world.state() is ShardState.PENDING


def test_a_lease_that_beats_never_ends(world: World) -> None:
    lease = world.lease(ELSEWHERE)
    for _ in range(5):
        world.look(LEASE_SECONDS - 1)
        world.manifest.beat(lease, Progress())
    assert world.state() is ShardState.RUNNING


def test_a_dead_process_of_this_host_loses_its_lease_at_once(world: World) -> None:
    world.lease(DEAD_HERE)
    world.look()
    assert world.state() is ShardState.PENDING


def test_observation_starts_anew_after_the_server_was_away(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.lease(ELSEWHERE)
    world.look()
    with monkeypatch.context() as patch:

        def away(*_: object) -> None:
            raise redis.ConnectionError("away")

        patch.setattr("queue_app.worker.reconciler.tick", away)
        world.look(LEASE_SECONDS + 1)
    world.look(1)
    assert world.state() is ShardState.RUNNING
    world.look(LEASE_SECONDS)
    assert world.state() is ShardState.PENDING


def test_a_shard_that_was_taken_away_goes_first_and_at_once_to_a_worker_that_waits(world: World) -> None:
    for index in (0, 1):
        world.lease(ELSEWHERE, index)
    world.lease(DEAD_HERE, 2)
    world.reconciler.step(worker("cpu1"), is_idle=True)  # takes it away, and is dealt it
    assert world.sent == [(2, "cpu1@host")]


def test_of_all_observers_one_takes_a_dead_lease_away(world: World) -> None:
    world.lease(DEAD_HERE)
    for _ in range(2):
        world.observer().step(worker("cpu9"), is_idle=False)
    events = world.client.lrange(keys.events(world.job.job_id), 0, -1)
    assert len(cast("list[str]", events)) == 1


def test_an_idle_worker_is_dealt_one_shard_and_a_busy_one_none(world: World) -> None:
    world.look(queue="cpu1", is_idle=True)
    world.look(queue="cpu2", is_idle=False)
    assert [queue for _, queue in world.sent] == ["cpu1@host"]


def test_shards_for_gpus_never_go_to_the_cpu(client: redis.Redis) -> None:
    job = make_job(num_shards=3, records_per_shard=10)
    world = World(client, replace(job, options=replace(job.options, device_class="cuda")))
    world.look(queue="cpu1", is_idle=True)
    assert world.sent == []
    world.look(queue="gpu1", is_idle=True)
    assert [queue for _, queue in world.sent] == ["gpu1@host"]


def test_only_one_observer_asks_for_lost_outputs(ended: "Ended") -> None:
    ended.look()
    ended.client.set(keys.RECONCILER, "two")
    ended.look(RESEND_SECONDS)
    assert ended.asked == []


def test_an_observer_that_died_with_the_lock_holds_it_no_longer_than_its_time(ended: "Ended") -> None:
    """The server ends the lock by a clock that somebody may have set back."""
    ended.client.set(keys.RECONCILER, "the dead")
    ended.look()
    for _ in range(4):
        ended.look(RESEND_SECONDS)
    assert len(ended.asked) == 1


def test_a_worker_is_live_until_its_beat_is_old_or_its_process_gone(client: redis.Redis) -> None:
    tick(client, worker("cpu0"))
    tick(client, replace(worker("cpu1"), owner=DEAD_HERE))
    assert [entry.queue for entry in live_workers(client, LEASE_SECONDS)] == ["cpu0"]
    assert live_workers(client, 0.0) == []


@dataclass
class Ended:
    """A job whose shards are all done, and an observer who misses its output."""

    client: redis.Redis
    home: Path
    now: float = 1000.0
    app: Sent = field(default_factory=Sent)

    def __post_init__(self) -> None:
        made = make_job(num_shards=2, records_per_shard=3)
        self.job = replace(made, output=str(self.home / "a.npy"))
        JobDir(self.home).write(self.job)
        take_job(self.client, JobDir(self.home))
        manifest = CheckpointManifest(self.client, self.job.job_id)
        manifest.initialize(self.job, str(self.home), {0: Progress(1, 3, 0), 1: Progress(1, 3, 0)})
        self.reconciler = Reconciler(
            self.client,
            cast("Celery", self.app),
            lease_seconds=LEASE_SECONDS,
            resend_seconds=RESEND_SECONDS,
            clock=lambda: self.now,
        )

    @property
    def asked(self) -> list[tuple[str, str]]:
        return self.app.exports

    def look(self, seconds: float = 0.0) -> None:
        self.now += seconds
        self.reconciler.step(worker("cpu0"), is_idle=False)


@pytest.fixture
def ended(client: redis.Redis, tmp_path: Path) -> Ended:
    return Ended(client, tmp_path)


def test_an_output_whose_message_was_lost_is_asked_for_again(ended: Ended) -> None:
    ended.look()
    assert ended.asked == []  # the worker that was done last has asked, no doubt
    ended.look(RESEND_SECONDS)
    ended.look(RESEND_SECONDS)
    assert ended.asked == [(ended.job.job_id, "cpu0@host")]
    mark_exported(Path(ended.job.output), ended.job.job_id)
    ended.look(100 * RESEND_SECONDS)
    assert len(ended.asked) == 1
    assert ended.client.smembers(keys.UNEXPORTED) == set()


def test_an_output_that_a_hung_worker_was_asked_for_is_left_to_another(ended: Ended) -> None:
    ended.client.lpush("cpu0@host", "not this one")
    ended.look()
    ended.look(RESEND_SECONDS)
    assert ended.asked == []
    ended.client.delete("cpu0@host")
    ended.look(RESEND_SECONDS)
    assert len(ended.asked) == 1


def test_an_output_that_a_worker_failed_at_is_asked_for_again_after_its_rest_while_there_is_hope(
    ended: Ended,
) -> None:
    own = worker("cpu0")
    register = TroubleRegister(ended.client, ended.job.job_id, Pauses(0.0, 0.0, LEASE_SECONDS))
    ended.look()
    for times in (1, 2):
        register.note(own, "no room", times_most=3)
        ended.look(RESEND_SECONDS / 2)
        ended.look(RESEND_SECONDS / 2)  # asked once, however long it takes
        assert len(ended.asked) == times
    register.note(own, "no room", times_most=3)
    ended.look(RESEND_SECONDS)
    assert len(ended.asked) == 2
    ended.look(EXPORT_PATIENCE * RESEND_SECONDS)
    assert len(ended.asked) == 3


def test_an_output_that_the_coordinator_writes_is_asked_of_no_worker(ended: Ended) -> None:
    CheckpointManifest(ended.client, ended.job.job_id).set_exporter("coordinator")
    for _ in range(3):
        ended.look(RESEND_SECONDS)
    assert ended.asked == []


def test_after_the_server_was_away_the_next_look_finds_what_it_has_forgotten(
    client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have come back with its data of an hour ago, in which nothing tells of a loss."""
    world, job_dir = World(client, make_job(num_shards=3, records_per_shard=10)), JobDir(tmp_path)
    job_dir.write(replace(world.job, output=str(tmp_path / "a.npy")))
    take_job(client, job_dir)
    fleet = Fleet(client, FleetMemory(None))
    world.reconciler.forgotten = ForgottenJobs([tmp_path], "redis://nowhere", fleet)
    world.look()
    world.manifest.forget()
    world.look()
    assert world.manifest.job_status() is None, "nobody looks at all jobs each time"
    with monkeypatch.context() as patch:

        def away(*_: object) -> None:
            raise redis.ConnectionError("away")

        patch.setattr("queue_app.worker.reconciler.tick", away)
        world.look()
    world.look()
    assert world.manifest.job_status() is not None


# ---- what strangers put on the server


@pytest.fixture
def garbled(client: redis.Redis, tmp_path: Path) -> World:
    """A job whose directory this host sees, of which one lease is held."""
    made = make_job(num_shards=3, records_per_shard=10)
    world = World(client, replace(made, output=str(tmp_path / "a.npy")))
    JobDir(tmp_path).write(world.job)
    take_job(client, JobDir(tmp_path))
    fleet = Fleet(client, FleetMemory(None))
    world.reconciler.forgotten = ForgottenJobs([tmp_path], "redis://nowhere", fleet)
    world.look()
    return world


@pytest.mark.parametrize(
    ("part", "field"),
    [
        ("job", "priority"),
        ("job", "sequences_total"),
        ("job", "num_shards"),
        ("shards", "0"),
        ("pending", ""),
    ],
)
def test_a_job_of_which_the_server_holds_garbage_is_made_known_anew_and_done(
    garbled: World, part: str, field: str, caplog: pytest.LogCaptureFixture
) -> None:
    client, name = garbled.client, f"holdfast:{{{garbled.job.job_id}}}:{part}"
    client.hset(name, field, "odd") if field else client.zadd(name, {"odd": -5})
    for _ in range(4):
        garbled.look(RESEND_SECONDS / 2, queue="cpu1", is_idle=True)
    assert len([each for each in caplog.records if each.message.startswith(REPLACED)]) == 1, "said once"
    assert garbled.sent
    status = garbled.manifest.job_status()
    assert status is not None
    assert (status.num_shards, status.sequences_total) == (3, 30)
    for index in range(3):
        garbled.manifest.complete(garbled.lease(ELSEWHERE, index), Progress(1, 10, 0))
    assert client.hlen(keys.UNSOUND) == 0


def test_a_job_that_a_child_met_as_garbage_is_made_known_anew(garbled: World) -> None:
    garbled.manifest.note_unsound(Garbage("holdfast:{x}:job signature", "nobody signed it"))
    assert garbled.client.exists(keys.ready("cpu")) == 0
    garbled.look()
    assert garbled.client.zcard(keys.ready("cpu")) == 1
    garbled.manifest.require_signed(garbled.job)


def test_a_job_whose_garbage_is_gone_is_dealt_again_by_who_does_not_see_its_directory(world: World) -> None:
    fleet = Fleet(world.client, FleetMemory(None))
    world.reconciler.forgotten = ForgottenJobs([], "redis://nowhere", fleet)
    world.look()
    world.client.hset(keys.job(world.job.job_id), "pace", "nan")
    world.look(1, queue="cpu1", is_idle=True)
    assert world.sent == []
    world.client.hset(keys.job(world.job.job_id), "pace", "0")
    world.look(1)
    world.look(1, queue="cpu1", is_idle=True)
    assert [queue for _, queue in world.sent] == ["cpu1@host"]


@pytest.mark.parametrize(
    "name", [keys.RECONCILER, keys.UNEXPORTED, keys.FLEET, keys.FORMER_FLEETS, keys.LEASES]
)
@pytest.mark.parametrize("value", ["string", "hash", "list"])
def test_no_key_of_another_type_keeps_an_observer_from_its_leases(
    garbled: World, name: str, value: str
) -> None:
    garbled.lease(DEAD_HERE, 1)
    garbled.client.delete(name)
    WRONG[value](garbled.client, name)
    for _ in range(3):
        garbled.look(RESEND_SECONDS)
    assert garbled.state(1) is ShardState.PENDING
    assert garbled.client.exists(keys.SEEN)
