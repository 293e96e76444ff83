"""Who is dealt which shard, and who observes whose lease: on a real server."""

import contextlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest
import redis
from celery import Celery

from checkpoint.process_identity import ProcessId
from queue_app.coordination import keys
from queue_app.coordination.dealing import LeaseSeen, deal_to, deal_to_idle, deal_to_queue, leave, tick
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.states import Lease, Refusal, ShardState
from queue_app.coordination.workers import Owner, WorkerEntry
from queue_app.job.spec import Job, Progress
from tests.support.jobs_and_inputs import make_job

LIMIT = 3


@dataclass
class Sent:
    """Stands in for the Celery app: (job, shard, queue) of each message."""

    messages: list[tuple[str, int, str]] = field(default_factory=list)

    @contextlib.contextmanager
    def producer_or_acquire(self) -> Iterator[None]:
        yield

    def send_task(self, name: str, args: Sequence[Any], queue: str, producer: object = None) -> None:
        self.messages.append((args[0], args[1], queue))


@dataclass
class Fleet:
    """Workers who ask for shards of the jobs that are known."""

    client: redis.Redis
    app: Sent = field(default_factory=Sent)

    def submit(self, name: str, num_shards: int = 4, cost: int = 1000, **run: Any) -> Job:
        made = make_job(num_shards=num_shards, records_per_shard=10)
        shards = tuple(replace(shard, job_id=name, cost=cost) for shard in made.shards)
        job = replace(made, job_id=name, shards=shards, run=replace(made.run, **run))
        CheckpointManifest(self.client, name).initialize(job, f"/jobs/{name}", {})
        return job

    def come_up(self, *workers: WorkerEntry) -> None:
        for worker in workers:
            tick(self.client, worker)

    def ask(self, worker: WorkerEntry, *, is_idle: bool = True) -> tuple[str, int] | None:
        """The job and shard that it is dealt."""
        before = len(self.app.messages)
        deal_to(self.client, cast("Celery", self.app), worker, is_idle=is_idle)
        new = self.app.messages[before:]
        assert all(queue == worker.name for _, _, queue in new)
        return new[0][:2] if new else None

    def begin(self, job: Job, index: int, worker: WorkerEntry) -> Lease:
        manifest = CheckpointManifest(self.client, job.job_id)
        answer = manifest.acquire(job.shards[index], owner=worker.owner, floor=0, attempt_limit=LIMIT)
        assert isinstance(answer, Lease)
        return answer

    def work(self, job: Job, worker: WorkerEntry) -> int:
        """It is dealt a shard, and begins it."""
        dealt = self.ask(worker)
        assert dealt is not None
        self.begin(job, dealt[1], worker)
        return dealt[1]

    def age(self, *, seconds: float) -> None:
        """As if everything had been dealt so long ago."""
        for member, time in self.client.zrange("holdfast:dealt:cpu", 0, -1, withscores=True):
            self.client.zadd("holdfast:dealt:cpu", {member: time - seconds})
        for worker, dealt in self.client.hgetall("holdfast:dealt_to").items():
            job, index, time = dealt.split()
            self.client.hset("holdfast:dealt_to", worker, f"{job} {index} {float(time) - seconds}")


def entry(number: int, host: str = "") -> WorkerEntry:
    host = host or f"host{number}"
    name = f"cpu{number}@{host}"
    owner = Owner(name, f"boot-{host}:1", ProcessId(1, 1)).encode()
    return WorkerEntry(name, f"cpu{number}", "cpu", host, 1, 2, owner)


A, B, C = (entry(number) for number in range(3))


@pytest.fixture
def fleet(client: redis.Redis) -> Fleet:
    made = Fleet(client)
    made.come_up(A, B, C)
    return made


def test_what_waits_has_no_message(fleet: Fleet) -> None:
    job = fleet.submit("one", num_shards=100)
    fleet.ask(A)
    assert len(fleet.app.messages) == 1
    status = CheckpointManifest(fleet.client, job.job_id).job_status()
    assert status is not None
    assert status.shards[ShardState.PENDING] == 100


def test_a_worker_is_not_dealt_a_second_shard_while_its_message_is_under_way(fleet: Fleet) -> None:
    fleet.submit("one")
    assert fleet.ask(A) is not None
    assert fleet.ask(A) is None


def test_a_lost_message_is_sent_again_to_the_worker_that_waits_for_it(fleet: Fleet) -> None:
    fleet.submit("one")
    lost = fleet.ask(A)
    fleet.age(seconds=4)
    assert fleet.ask(A) == lost


def test_each_shard_is_dealt_once_while_its_worker_gets_ready(fleet: Fleet) -> None:
    fleet.submit("one", num_shards=2)
    assert {fleet.ask(A), fleet.ask(B)} == {("one", 0), ("one", 1)}
    assert fleet.ask(C) is None


def test_a_shard_whose_worker_takes_too_long_goes_to_an_idle_one(fleet: Fleet) -> None:
    fleet.submit("one", num_shards=1)
    assert fleet.ask(A) == ("one", 0)
    fleet.age(seconds=31)
    assert fleet.ask(B) == ("one", 0)


def test_what_was_dealt_of_jobs_that_rest_hides_nothing_that_waits_in_vain(fleet: Fleet) -> None:
    job = fleet.submit("resting", num_shards=8)
    for number in range(10, 18):
        fleet.come_up(entry(number))
        assert fleet.ask(entry(number)) is not None
    CheckpointManifest(fleet.client, job.job_id).pause()
    fleet.submit("one", num_shards=1)
    assert fleet.ask(A) == ("one", 0)
    fleet.age(seconds=31)
    assert {fleet.ask(B), fleet.ask(B)} == {None, ("one", 0)}


def test_what_was_dealt_to_a_worker_that_has_gone_waits_again_and_its_queue_is_empty(fleet: Fleet) -> None:
    fleet.submit("one", num_shards=1)
    fleet.ask(A)
    fleet.client.lpush(A.name, "its message")
    leave(fleet.client, A.name)
    assert fleet.client.exists(A.name) == 0
    assert fleet.ask(B) == ("one", 0)


def test_a_worker_of_which_nothing_was_heard_for_long_is_forgotten_by_its_observers(fleet: Fleet) -> None:
    fleet.submit("one", num_shards=1)
    fleet.ask(A)
    fleet.client.zincrby(keys.SEEN, -61, A.name)
    fleet.come_up(B, C)
    assert fleet.client.hexists(keys.WORKERS, A.name) in (0, False)
    assert fleet.ask(B) == ("one", 0)


def test_a_shard_that_was_taken_back_is_dealt_first(fleet: Fleet) -> None:
    job = fleet.submit("one", num_shards=6)
    fleet.work(job, A)
    lease = fleet.begin(job, 3, B)
    CheckpointManifest(fleet.client, "one").release(lease, "stopped early", counts=False)
    assert fleet.ask(C) == ("one", 3)


def test_a_shard_that_failed_waits_for_its_pause(fleet: Fleet) -> None:
    job = fleet.submit("one", num_shards=1)
    manifest = CheckpointManifest(fleet.client, "one")
    manifest.release(fleet.begin(job, 0, A), "ValueError", delay_seconds=500)
    fleet.come_up(B)
    assert fleet.ask(B) is None
    fleet.client.zincrby("holdfast:delayed", -500, "one 0")
    fleet.come_up(B)
    assert fleet.ask(B) == ("one", 0)


def test_a_clock_that_was_set_back_ends_no_pause_too_late(fleet: Fleet) -> None:
    job = fleet.submit("one", num_shards=1)
    manifest = CheckpointManifest(fleet.client, "one")
    manifest.release(fleet.begin(job, 0, A), "ValueError", delay_seconds=1)
    fleet.client.zincrby("holdfast:delayed", 99_999, "one 0")
    fleet.come_up(B)
    assert fleet.ask(B) == ("one", 0)


def test_jobs_of_equal_priority_share_the_workers(fleet: Fleet) -> None:
    large, small = fleet.submit("large", num_shards=100), fleet.submit("small", num_shards=100)
    jobs = {"large": large, "small": small}
    at_work: Counter[str] = Counter()
    for number in range(10, 16):
        fleet.come_up(entry(number))
        dealt = fleet.ask(entry(number))
        assert dealt is not None
        fleet.begin(jobs[dealt[0]], dealt[1], entry(number))
        at_work[dealt[0]] += 1
    assert at_work == {"large": 3, "small": 3}


def test_the_higher_priority_goes_first_whatever_is_at_work(fleet: Fleet) -> None:
    fleet.submit("usual", num_shards=100)
    urgent = fleet.submit("urgent", num_shards=2, priority=1)
    assert {fleet.work(urgent, A), fleet.work(urgent, B)} == {0, 1}
    dealt = fleet.ask(C)
    assert dealt is not None
    assert dealt[0] == "usual"


def test_no_more_workers_than_allowed_have_a_shard_of_a_job(fleet: Fleet) -> None:
    job = fleet.submit("one", num_shards=10, max_workers=2)
    index = fleet.work(job, A)
    fleet.work(job, B)
    assert fleet.ask(C) is None
    held = CheckpointManifest(fleet.client, "one").shard_status(index)
    assert held is not None
    CheckpointManifest(fleet.client, "one").complete(Lease(job.shards[index], held.token), Progress(1, 10, 0))
    assert fleet.ask(C) is not None


def test_a_paused_job_deals_nothing_and_goes_on_when_it_is_unpaused(fleet: Fleet) -> None:
    fleet.submit("one")
    manifest = CheckpointManifest(fleet.client, "one")
    manifest.pause()
    assert fleet.ask(A) is None
    manifest.unpause()
    assert deal_to_idle(fleet.client, cast("Celery", fleet.app), "cpu") == 1
    assert fleet.app.messages[-1][2] == A.name


def test_a_message_of_a_paused_job_leaves_its_shard_to_be_dealt_again(fleet: Fleet) -> None:
    job = fleet.submit("one", num_shards=1)
    fleet.ask(A)
    manifest = CheckpointManifest(fleet.client, "one")
    manifest.pause()
    refused = manifest.acquire(job.shards[0], owner=A.owner, floor=0, attempt_limit=LIMIT)
    assert refused == Refusal("paused")
    manifest.unpause()
    assert fleet.ask(B) == ("one", 0)


def test_idle_workers_are_dealt_what_comes_up_until_nothing_is_left(fleet: Fleet) -> None:
    for worker in (A, B, C):
        assert fleet.ask(worker) is None
    fleet.submit("one", num_shards=2)
    assert deal_to_idle(fleet.client, cast("Celery", fleet.app), "cpu") == 2
    assert {queue for _, _, queue in fleet.app.messages} == {A.name, B.name}


def test_a_worker_that_fell_silent_is_dealt_nothing(fleet: Fleet) -> None:
    fleet.ask(A)
    fleet.client.zincrby(keys.SEEN, -31, A.name)
    fleet.submit("one")
    assert deal_to_idle(fleet.client, cast("Celery", fleet.app), "cpu") == 0


def test_a_queue_without_a_worker_gets_one_shard_which_waits_for_no_one_for_ever(fleet: Fleet) -> None:
    fleet.submit("one", num_shards=1)
    deal_to_queue(fleet.client, cast("Celery", fleet.app), "cpu9", "cpu")
    fleet.age(seconds=31)
    deal_to_queue(fleet.client, cast("Celery", fleet.app), "cpu9", "cpu")
    assert fleet.app.messages == [("one", 0, "cpu9")]
    assert fleet.ask(A) == ("one", 0)


def test_a_worker_in_trouble_with_a_job_is_dealt_others(fleet: Fleet) -> None:
    fleet.submit("bad", num_shards=4)
    trouble = {"text": "no model", "retry_at": float(fleet.client.time()[0]) + 100}
    fleet.client.hset(keys.trouble("bad"), A.name, json.dumps(trouble))
    assert fleet.ask(A) is None
    fleet.submit("good", num_shards=4)
    dealt = fleet.ask(A)
    assert dealt is not None
    assert dealt[0] == "good"
    assert fleet.ask(B) is not None


# ---- uneven workers


def pace_of(fleet: Fleet, job: Job, worker: WorkerEntry, pace: float) -> None:
    fleet.client.hset(f"holdfast:{{{job.job_id}}}:paces", worker.name, pace)


def test_a_slow_worker_begins_no_shard_that_others_would_end_sooner(fleet: Fleet) -> None:
    job = fleet.submit("one", num_shards=3)
    pace_of(fleet, job, A, 1000.0)
    pace_of(fleet, job, C, 100.0)
    fleet.work(job, A)
    # 3,000 are left, which A ends in 3 s; C would take 10 s for a shard.
    assert fleet.ask(C) is None
    pace_of(fleet, job, B, 1000.0)
    assert fleet.ask(B) is not None


def test_a_slow_worker_begins_what_it_ends_before_the_others_are_through(fleet: Fleet) -> None:
    job = fleet.submit("one", num_shards=30)
    pace_of(fleet, job, A, 1000.0)
    pace_of(fleet, job, C, 100.0)
    fleet.work(job, A)
    assert fleet.ask(C) is not None


def test_a_worker_as_fast_as_the_others_begins_the_last_shard_though_they_are_nearly_through(
    fleet: Fleet,
) -> None:
    job = fleet.submit("one", num_shards=3)
    manifest = CheckpointManifest(fleet.client, "one")
    for worker in (A, B, C):
        pace_of(fleet, job, worker, 1000.0)
    for worker in (A, B):
        index = fleet.work(job, worker)
        held = manifest.shard_status(index)
        assert held is not None
        manifest.beat(Lease(job.shards[index], held.token), Progress(9, 9, 0, 0.9))
    assert fleet.ask(C) is not None


def test_a_slow_worker_does_all_when_nobody_else_is_there(fleet: Fleet) -> None:
    job = fleet.submit("one", num_shards=1)
    pace_of(fleet, job, C, 0.001)
    assert fleet.ask(C) == ("one", 0)


def test_the_pace_of_a_worker_is_that_of_its_last_shard_and_counts_while_it_holds_one(
    fleet: Fleet,
) -> None:
    job = fleet.submit("one", num_shards=4)
    manifest = CheckpointManifest(fleet.client, "one")
    lease = fleet.begin(job, 0, A)
    fleet.client.zincrby(keys.running("one"), -10, "0")  # ten seconds ago
    manifest.complete(lease, Progress(1, 10, 0))
    pace = float(fleet.client.hget("holdfast:{one}:paces", A.name) or 0)
    assert pace == pytest.approx(100.0, rel=0.1)
    assert float(fleet.client.hget(keys.job("one"), "pace") or 0) == 0
    again = fleet.begin(job, 1, A)
    assert float(fleet.client.hget(keys.job("one"), "pace") or 0) == pytest.approx(pace)
    manifest.release(again, "stopped early", counts=False)
    assert float(fleet.client.hget(keys.job("one"), "pace") or 0) == pytest.approx(0)


# ---- hosts


def fail(fleet: Fleet, job: Job, worker: WorkerEntry) -> None:
    CheckpointManifest(fleet.client, job.job_id).release(fleet.begin(job, 0, worker), "ValueError: no")


def refusal(fleet: Fleet, job: Job, worker: WorkerEntry) -> str:
    manifest = CheckpointManifest(fleet.client, job.job_id)
    answer = manifest.acquire(job.shards[0], owner=worker.owner, floor=0, attempt_limit=LIMIT)
    assert isinstance(answer, Refusal)
    return answer.reason


def test_a_shard_that_fails_on_one_host_alone_is_not_given_up_while_there_is_another(fleet: Fleet) -> None:
    job = fleet.submit("one", num_shards=1)
    for _ in range(LIMIT):
        fail(fleet, job, A)
    assert refusal(fleet, job, A) == "elsewhere"
    assert fleet.ask(A) is None
    assert fleet.ask(B) == ("one", 0)
    fleet.begin(job, 0, B)


def test_a_shard_that_fails_on_two_hosts_is_given_up(fleet: Fleet) -> None:
    job = fleet.submit("one", num_shards=1)
    for worker in (A, B):
        for _ in range(LIMIT):
            fail(fleet, job, worker)
        if worker is A:
            assert refusal(fleet, job, A) == "elsewhere"
    assert refusal(fleet, job, C) == "exhausted"


def test_a_shard_that_fails_is_given_up_where_there_is_but_one_host(client: redis.Redis) -> None:
    fleet, here = Fleet(client), [entry(number, "here") for number in range(2)]
    fleet.come_up(*here)
    job = fleet.submit("one", num_shards=1)
    for number in range(LIMIT):
        fail(fleet, job, here[number % 2])
    assert refusal(fleet, job, here[0]) == "exhausted"


# ---- observers


def test_three_live_workers_observe_each_lease_however_many_there_are(client: redis.Redis) -> None:
    fleet, workers = Fleet(client), [entry(number) for number in range(40)]
    fleet.come_up(*workers)
    job = fleet.submit("one", num_shards=40)
    for worker, shard in zip(workers, job.shards, strict=True):
        fleet.begin(job, shard.index, worker)
    seen = Counter(lease.index for worker in workers for lease in tick(client, worker).leases)
    # Beside the three, the holder's own host looks at it.
    assert set(seen) == set(range(40))
    assert all(3 <= number <= 4 for number in seen.values())


def test_a_lease_whose_observers_are_dead_is_observed_by_the_next_ones(client: redis.Redis) -> None:
    fleet, workers = Fleet(client), [entry(number) for number in range(12)]
    fleet.come_up(*workers)
    job = fleet.submit("one", num_shards=1)
    fleet.begin(job, 0, workers[0])
    observers = [worker for worker in workers[1:] if tick(client, worker).leases]
    for worker in [workers[0], *observers]:
        client.zincrby(keys.SEEN, -31, worker.name)
    others = [worker for worker in workers[1:] if worker not in observers]
    assert len([worker for worker in others if tick(client, worker).leases]) >= 1


def test_a_worker_sees_the_leases_of_its_own_host(client: redis.Redis) -> None:
    fleet, others = Fleet(client), [entry(number) for number in range(10, 40)]
    here = [entry(number, "here") for number in range(4)]
    fleet.come_up(*others, *here)
    job = fleet.submit("one", num_shards=1)
    lease = fleet.begin(job, 0, here[0])
    for worker in here:
        assert LeaseSeen("one", 0, 0, lease.token, here[0].owner) in tick(client, worker).leases


def test_a_tick_asks_the_server_as_much_however_many_shards_and_jobs_there_are(client: redis.Redis) -> None:
    def calls() -> int:
        stats = client.info("commandstats")
        return sum(stat["calls"] for name, stat in stats.items() if not name.startswith("cmdstat_info"))

    def cost(worker: WorkerEntry) -> int:
        before = calls()
        tick(client, worker)
        deal_to(client, cast("Celery", Sent()), worker)
        return calls() - before

    fleet = Fleet(client)
    fleet.come_up(*(entry(number) for number in range(8)))
    fleet.submit("few", num_shards=2)
    few = cost(entry(0))
    for number in range(20):
        fleet.submit(f"job{number}", num_shards=500)
    assert cost(entry(1)) <= few + 10
