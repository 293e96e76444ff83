"""The reconciler's promises, on a real server and a clock that the test moves."""

import base64
import contextlib
import json
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
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.routing import queued_shards
from queue_app.coordination.states import Lease, ShardState
from queue_app.coordination.workers import Owner, WorkerEntry, live_workers, register
from queue_app.job.directory import JobDir
from queue_app.job.output_names import meta_path
from queue_app.job.spec import Job, Progress
from queue_app.worker.reconciler import Reconciler
from tests.support.jobs_and_inputs import make_job

LEASE_SECONDS = 15.0
RESEND_SECONDS = 30.0
ELSEWHERE = Owner("cpu0@far", "another-boot:1", ProcessId(1, 1)).encode()
DEAD_HERE = Owner("cpu0@here", host_key(), ProcessId(2**22 - 1, 1)).encode()


@dataclass
class Sent:
    """Stands in for the Celery app: the shards of each sending, by queue, and the outputs asked for."""

    shards: list[dict[int, str]] = field(default_factory=list)
    exports: list[tuple[str, str, str]] = field(default_factory=list)

    @contextlib.contextmanager
    def producer_or_acquire(self) -> Iterator[None]:
        self.shards.append({})
        yield

    def send_task(self, name: str, args: Sequence[Any], queue: str, producer: object = None) -> None:
        if name == EXPORT_JOB:
            self.exports.append((args[0], args[1], queue))
        else:
            self.shards[-1][args[2]] = queue

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"nobody should ask the app for {name}")


@dataclass
class World:
    """One job, one observer, and a clock."""

    client: redis.Redis
    job: Job
    now: float = 1000.0
    app: Sent = field(default_factory=Sent)

    def __post_init__(self) -> None:
        self.manifest = CheckpointManifest(self.client, self.job.job_id)
        self.manifest.initialize(self.job, "/jobs/a", dict.fromkeys(range(3), "cpu0"), {})
        self.reconciler = self.observer("one")

    def observer(self, name: str) -> Reconciler:
        return Reconciler(
            self.client,
            cast("Celery", self.app),
            name,
            lease_seconds=LEASE_SECONDS,
            resend_seconds=RESEND_SECONDS,
            clock=lambda: self.now,
        )

    @property
    def sent(self) -> list[dict[int, str]]:
        return self.app.shards

    def lease(self, owner: str, index: int = 0) -> Lease:
        answer = self.manifest.acquire(self.job.shards[index], owner=owner, floor=0, attempt_limit=20)
        assert isinstance(answer, Lease)
        return answer

    def state(self, index: int = 0) -> ShardState:
        status = self.manifest.shard_status(index)
        assert status is not None
        return status.state

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.reconciler.step()


@pytest.fixture
def world(client: redis.Redis) -> World:
    made = World(client, make_job(num_shards=3, records_per_shard=10))
    register(client, worker("cpu0"))
    made.manifest.mark_sent(dict.fromkeys(range(3), "cpu0"))
    for index in range(3):
        enqueue(client, made.job.job_id, index)
    return made


def worker(queue: str, owner: str = "") -> WorkerEntry:
    return WorkerEntry(f"{queue}@host", queue, "cpu", "host", 1, 2, owner)


def enqueue(client: redis.Redis, job_id: str, index: int, queue: str = "cpu0") -> None:
    body = base64.b64encode(json.dumps([[job_id, "/jobs/a", index], {}, {}]).encode()).decode()
    client.lpush(queue, json.dumps({"body": body}))


def test_a_lease_ends_when_one_observer_saw_the_same_beat_for_its_whole_length(world: World) -> None:
    world.lease(ELSEWHERE)
    world.reconciler.step()
    world.wait(LEASE_SECONDS - 0.1)
    assert world.state() is ShardState.RUNNING
    world.wait(0.2)
    assert world.state() is ShardState.PENDING
    assert world.sent == [{0: "cpu0"}]


def test_a_lease_that_beats_never_ends(world: World) -> None:
    lease = world.lease(ELSEWHERE)
    for _ in range(5):
        world.wait(LEASE_SECONDS - 1)
        world.manifest.beat(lease, Progress())
    assert world.state() is ShardState.RUNNING


def test_a_dead_process_of_this_host_loses_its_lease_at_once(world: World) -> None:
    world.lease(DEAD_HERE)
    world.reconciler.step()
    assert world.state() is ShardState.PENDING
    assert world.sent == [{0: "cpu0"}]


def test_observation_starts_anew_after_the_server_was_away(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.lease(ELSEWHERE)
    world.reconciler.step()
    with monkeypatch.context() as patch:

        def away(*_: object) -> None:
            raise redis.ConnectionError("away")

        patch.setattr(world.client, "hgetall", away)
        world.wait(LEASE_SECONDS + 1)
    world.wait(1)
    assert world.state() is ShardState.RUNNING
    world.wait(LEASE_SECONDS)
    assert world.state() is ShardState.PENDING


def test_a_lost_message_is_sent_again(world: World) -> None:
    world.client.delete("cpu0")
    enqueue(world.client, world.job.job_id, 1)
    age_messages(world)
    world.wait(RESEND_SECONDS)
    assert world.sent == [{0: "cpu0", 2: "cpu0"}]


def test_a_message_that_only_waits_its_turn_is_not_sent_again(world: World) -> None:
    age_messages(world)
    for _ in range(5):
        world.wait(RESEND_SECONDS)
    assert world.sent == []


def test_an_idle_worker_gets_a_shard_that_waits_for_a_busy_one(world: World) -> None:
    world.lease(Owner("cpu0@host", "another-boot:1", ProcessId(1, 1)).encode())
    register(world.client, worker("cpu1"))
    overdue(world, 1, 2)
    world.reconciler.step()
    assert world.sent == [{2: "cpu1"}]


def test_a_worker_that_has_work_gets_none_of_anothers(world: World) -> None:
    world.lease(Owner("cpu1@host", "another-boot:1", ProcessId(1, 1)).encode())
    register(world.client, worker("cpu1"))
    enqueue(world.client, "another-job", 0, queue="cpu2")
    register(world.client, worker("cpu2"))
    overdue(world, 1, 2)
    world.reconciler.step()
    assert world.sent == []


def test_an_idle_worker_leaves_alone_what_was_sent_just_now(world: World) -> None:
    register(world.client, worker("cpu1"))
    world.reconciler.step()
    assert world.sent == []


def overdue(world: World, *indices: int) -> None:
    for index in indices:
        world.client.hincrbyfloat(keys.shard(world.job.job_id, index), "sent_at", -2 * RESEND_SECONDS)


def test_shards_of_a_queue_without_a_live_worker_move_to_another(world: World) -> None:
    world.manifest.mark_sent(dict.fromkeys(range(3), "cpu9"))
    age_messages(world)
    world.wait(RESEND_SECONDS)
    assert world.sent == [dict.fromkeys(range(3), "cpu0")]


def test_shards_for_gpus_never_move_to_the_cpu(world: World) -> None:
    world.manifest.mark_sent(dict.fromkeys(range(3), "gpu0"))
    age_messages(world)
    world.wait(RESEND_SECONDS)
    assert world.sent == []


def age_messages(world: World) -> None:
    """As if every message had been sent an hour ago, by the server's clock."""
    for index in range(3):
        key = f"holdfast:{{{world.job.job_id}}}:shard:{index}"
        sent_at = world.client.hget(key, "sent_at")
        assert isinstance(sent_at, str)
        world.client.hset(key, "sent_at", str(float(sent_at) - 3600))


def test_a_server_clock_set_back_hides_no_lost_message(world: World) -> None:
    world.client.delete("cpu0")
    for index in range(3):
        world.client.hset(f"holdfast:{{{world.job.job_id}}}:shard:{index}", "sent_at", "99999999999")
    world.wait(RESEND_SECONDS)
    assert world.sent == [dict.fromkeys(range(3), "cpu0")]


def test_of_all_observers_one_sends_a_dead_shard_again(world: World) -> None:
    world.lease(DEAD_HERE)
    world.observer("two").step()
    world.reconciler.step()
    assert world.sent == [{0: "cpu0"}]


def test_a_dead_shard_waits_for_no_other_observer(world: World) -> None:
    """The lock of who sends lost messages again may be held by a worker that died with it."""
    world.client.set(keys.RECONCILER, "the dead")
    world.lease(DEAD_HERE)
    world.reconciler.step()
    assert world.sent == [{0: "cpu0"}]


def test_only_one_observer_sends_lost_messages_again(world: World) -> None:
    world.client.delete("cpu0")
    world.client.set(keys.RECONCILER, "two")
    for _ in range(3):
        world.wait(RESEND_SECONDS)
    assert world.sent == []


def test_an_observer_that_died_with_the_lock_holds_it_no_longer_than_its_time(world: World) -> None:
    """The server ends the lock by a clock that somebody may have set back."""
    world.client.delete("cpu0")
    overdue(world, 0, 1, 2)
    world.client.set(keys.RECONCILER, "the dead")
    world.reconciler.step()
    assert world.sent == []
    world.wait(RESEND_SECONDS / 2)
    world.wait(RESEND_SECONDS / 2)
    assert world.sent == [dict.fromkeys(range(3), "cpu0")]


def test_a_shard_does_not_go_back_to_the_queue_that_fell_silent_with_it(world: World) -> None:
    world.lease(ELSEWHERE)
    register(world.client, worker("cpu1"))
    silence(world.client, "cpu0", LEASE_SECONDS / 2)
    world.wait(0)
    world.wait(LEASE_SECONDS)
    assert world.sent == [{0: "cpu1"}]


def silence(client: redis.Redis, queue: str, seconds: float) -> None:
    """Have a worker not been heard of for so long."""
    entry = json.loads(cast("str", client.hget(keys.WORKERS, f"{queue}@host")))
    client.hset(keys.WORKERS, f"{queue}@host", json.dumps(entry | {"seen": entry["seen"] - seconds}))


def test_garbage_in_a_queue_hides_no_message(client: redis.Redis) -> None:
    for garbage in ("not json", "{}", '{"body": "!"}', '{"body": "e30="}', "[]", "7"):
        client.lpush("cpu0", garbage)
    enqueue(client, "job", 7)
    assert queued_shards(client, "cpu0") == {("job", 7)}


def test_a_worker_is_live_until_its_beat_is_old_or_its_process_gone(client: redis.Redis) -> None:
    register(client, worker("cpu0"))
    register(client, worker("cpu1", DEAD_HERE))
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
        manifest = CheckpointManifest(self.client, self.job.job_id)
        manifest.initialize(self.job, str(self.home), {}, {0: Progress(1, 3, 0), 1: Progress(1, 3, 0)})
        register(self.client, worker("cpu0"))
        self.reconciler = Reconciler(
            self.client,
            cast("Celery", self.app),
            "one",
            lease_seconds=LEASE_SECONDS,
            resend_seconds=RESEND_SECONDS,
            clock=lambda: self.now,
        )

    @property
    def asked(self) -> list[tuple[str, str, str]]:
        return self.app.exports

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.reconciler.step()


@pytest.fixture
def ended(client: redis.Redis, tmp_path: Path) -> Ended:
    return Ended(client, tmp_path)


def test_an_output_whose_message_was_lost_is_asked_for_again(ended: Ended) -> None:
    ended.wait(0)
    assert ended.asked == []  # the worker that was done last has asked, no doubt
    ended.wait(RESEND_SECONDS)
    ended.wait(RESEND_SECONDS)
    assert ended.asked == [(ended.job.job_id, str(ended.home), "cpu0")]
    meta_path(Path(ended.job.output)).write_text(json.dumps({"job": ended.job.job_id}))
    ended.wait(100 * RESEND_SECONDS)
    assert len(ended.asked) == 1


def test_an_output_that_a_hung_worker_was_asked_for_is_asked_of_another(ended: Ended) -> None:
    register(ended.client, worker("cpu1"))
    enqueue(ended.client, "not this one", 0, queue="cpu0")
    ended.wait(0)
    ended.wait(RESEND_SECONDS)
    assert [queue for _, _, queue in ended.asked] == ["cpu1"]


def test_an_output_that_the_coordinator_writes_is_asked_of_no_worker(ended: Ended) -> None:
    CheckpointManifest(ended.client, ended.job.job_id).set_exporter("coordinator")
    for _ in range(3):
        ended.wait(RESEND_SECONDS)
    assert ended.asked == []
