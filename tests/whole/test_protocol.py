"""The protocol's promises over every state that the model reaches, what each guard is for, and whether the
model's manifest is manifest.lua's."""

from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest
import redis

from queue_app.coordination import keys
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.states import Lease, Refusal
from queue_app.job.spec import Job, Progress
from tests.campaigns.lease_model import manifest
from tests.campaigns.lease_model.manifest import CANCELLED, DONE, FAILED, Answer, Manifest
from tests.campaigns.lease_model.promises import INVARIANTS, NO_DEADLOCK
from tests.campaigns.lease_model.search import Report, explore
from tests.campaigns.lease_model.setup import NUM_BATCHES, Bounds, Guards, Setup
from tests.support.jobs_and_inputs import make_job

EVERY_FAULT = Bounds(
    faults=2,
    crashes=1,
    stalls=1,
    messages=1,
    replies=1,
    flushes=1,
    cancels=1,
    resumes=1,
    drains=1,
    failures=1,
)
FEWER_FAULTS = Bounds(faults=2, crashes=1, stalls=1, flushes=1, cancels=1, resumes=1)
ONE_FAULT = Bounds(faults=1, crashes=1, flushes=1, cancels=1, failures=1)
ONE_PROCESS = Bounds(faults=1, crashes=1, drains=1)
DAMAGE = Bounds(faults=2, crashes=1, stalls=1, resumes=2, damages=1)
WITHOUT_EVICTION = tuple(promise for promise in INVARIANTS if promise.__name__ != "one_process_per_store")


def show(name: str, report: Report) -> None:
    print(f"{name}: {report}")


# ---- all promises, everywhere


def test_all_promises_hold_under_every_fault() -> None:
    report = explore(Setup(EVERY_FAULT))
    show("every fault", report)
    assert report.broken is None
    assert report.num_states > 80_000
    assert report.endings == {(), (DONE,), (FAILED,), (CANCELLED,)}


HOUSES = {
    "containers": (Setup(FEWER_FAULTS, Guards(evict=False)), WITHOUT_EVICTION, 60_000),
    "two hosts": (Setup(FEWER_FAULTS, two_hosts=True), INVARIANTS, 100_000),
    "two shards": (Setup(ONE_FAULT, num_shards=2), INVARIANTS, 140_000),
    "one process": (Setup(ONE_PROCESS, num_shards=2, one_process=True), INVARIANTS, 160_000),
    "rotten results": (Setup(DAMAGE, two_hosts=True), INVARIANTS, 40_000),
}


@pytest.mark.parametrize("house", HOUSES)
def test_the_promises_hold_in_every_house(house: str) -> None:
    setup, promises, num_states = HOUSES[house]
    report = explore(setup, promises)
    show(house, report)
    assert report.broken is None, str(report)
    assert report.num_states > num_states
    assert (DONE,) * setup.num_shards in report.endings


def test_what_kills_every_attempt_is_given_up() -> None:
    faults = Bounds(faults=2, crashes=1, stalls=1, messages=1, replies=1, resumes=1)
    report = explore(Setup(faults, poison=True), INVARIANTS)
    show("poison", report)
    assert report.broken is None, str(report)
    assert report.num_states > 20_000
    assert report.endings == {(FAILED,)}


# ---- what each guard is for

BROKEN_WITHOUT = {
    "fence": ("no_fenced_write", Setup(Bounds(1, stalls=1))),
    # Where the server's clock was set back, the floor alone keeps an old token from coming again.
    "floor": ("leases_outrank_the_store", Setup(Bounds(1, flushes=1), Guards(epoch=False))),
    "token_check": ("only_the_holder_is_heard", Setup(Bounds(1, stalls=1))),
    "count_check": ("done_shards_are_published", Setup(Bounds(0))),
    "whole_check": ("done_files_name_whole_results", Setup(Bounds(0))),
    "order": ("done_files_name_whole_results", Setup(Bounds(0))),
    "attempt_limit": ("attempts_are_limited", Setup(Bounds(0), poison=True)),
    "new_commits_only": ("attempts_are_limited", Setup(Bounds(0), poison=True)),
    "absolute_progress": ("done_shards_are_published", Setup(Bounds(0))),
    "expiry": (NO_DEADLOCK, Setup(Bounds(1, crashes=1))),
    "resend": (NO_DEADLOCK, Setup(Bounds(1, messages=1))),
    "rebuild": (NO_DEADLOCK, Setup(Bounds(1, flushes=1))),
    "evict": ("one_process_per_store", Setup(Bounds(1, stalls=1))),
    "look_before_evict": ("fenced_workers_end_nobody", Setup(Bounds(1, stalls=1))),
    "epoch": ("no_token_is_given_twice", Setup(Bounds(1, flushes=1))),
    "create_only": ("outputs_agree_with_records", Setup(Bounds(1, stalls=1), two_hosts=True)),
    "reopen_as_seen": ("sound_records_stay", Setup(Bounds(3, crashes=1, damages=1, resumes=1))),
    "loser_looks": ("done_files_name_whole_results", Setup(Bounds(1, crashes=1))),
    "drain_floor": ("attempts_are_limited", Setup(Bounds(3, crashes=2, drains=1))),
}


@pytest.mark.parametrize("guard", BROKEN_WITHOUT)
def test_without_its_guard_a_promise_is_broken(guard: str) -> None:
    promise, setup = BROKEN_WITHOUT[guard]
    only = [each for each in INVARIANTS if each.__name__ == promise]
    assert explore(setup, only).broken is None
    report = explore(replace(setup, guards=replace(setup.guards, **{guard: False})), only)
    show(f"without {guard}", report)
    assert report.broken == promise
    assert report.trace


def test_every_guard_of_the_code_is_tried() -> None:
    built = {name for name in Guards.__slots__ if getattr(Guards(), name)}
    assert built == set(BROKEN_WITHOUT)


# ---- the model's manifest is the real one

NUM_SHARDS, LIMIT = 2, 2
AS_BUILT = Guards()


class Pair:
    """The same calls, made to manifest.lua on a real server and to the model."""

    def __init__(self, client: redis.Redis, random: Random) -> None:
        self.client = client
        self.random = random
        self.job: Job = make_job(num_shards=NUM_SHARDS, records_per_shard=NUM_BATCHES)
        self.real = CheckpointManifest(client, self.job.job_id)
        self.flush()

    def flush(self) -> tuple[Answer, Answer]:
        finished = [shard for shard in range(NUM_SHARDS) if self.random.random() < 0.2]
        self.client.flushall()
        self.real.initialize(self.job, "/jobs/a", {shard: Progress(0, NUM_BATCHES, 0) for shard in finished})
        self.model = manifest.fresh(NUM_SHARDS, finished)
        # The model counts tokens from 0, the server from the time.
        self.first = int(self.client.hget(keys.job(self.job.job_id), "epoch") or 0)
        return (), ()

    def acquire(self) -> tuple[Answer, Answer]:
        shard, floor, request = self.shard(), self.random.randrange(4), self.random.choice((1, 2))
        given = self.real.acquire(
            self.job.shards[shard],
            owner="me",
            floor=self.first + floor,
            attempt_limit=LIMIT,
            request=str(request),
        )
        answer = self.follow(manifest.acquire(self.model, shard, floor, request, LIMIT))
        if isinstance(given, Lease):
            return ("ok", given.token - self.first), answer
        return (given.reason, *(int(token) - self.first for token in given.detail[:1])), answer

    def beat(self) -> tuple[Answer, Answer]:
        lease, batches = self.lease(), self.random.randrange(NUM_BATCHES + 1)
        state = self.real.beat(self.real_lease(lease), Progress(batches, batches, 0))
        answer = self.follow(manifest.beat(self.model, lease.shard.index, lease.token, batches, AS_BUILT))
        return ("lost",) if state is None else ("ok", str(state)), answer

    def complete(self) -> tuple[Answer, Answer]:
        lease, batches = self.lease(), self.random.choice((NUM_BATCHES, NUM_BATCHES, 1))
        ended = self.real.complete(self.real_lease(lease), Progress(batches, batches, 0))
        answer = self.follow(manifest.complete(self.model, lease.shard.index, lease.token, batches, AS_BUILT))
        return (ended.reason,) if isinstance(ended, Refusal) else ("ok", str(ended[0])), answer

    def release(self) -> tuple[Answer, Answer]:
        lease, counts = self.lease(), self.random.random() < 0.5
        answer = self.follow(
            manifest.release(self.model, lease.shard.index, lease.token, AS_BUILT, counts=counts)
        )
        return self.said(self.real.release(self.real_lease(lease), "test", counts=counts), "lost"), answer

    def fail(self) -> tuple[Answer, Answer]:
        lease = self.lease()
        answer = self.follow(manifest.fail(self.model, lease.shard.index, lease.token, AS_BUILT))
        return self.said(self.real.fail(self.real_lease(lease), "test"), "lost"), answer

    def expire(self) -> tuple[Answer, Answer]:
        lease = self.lease()
        (status,) = self.real.shard_statuses([lease.shard.index])
        answer = self.follow(manifest.expire(self.model, lease.shard.index, lease.token))
        return self.said(
            self.real.expire(status.index, self.real_lease(lease).token, status.beat, "test"), "refused"
        ), answer

    def reopen(self) -> tuple[Answer, Answer]:
        shard = self.shard()
        return self.said(self.real.reopen(shard), "refused"), self.follow(manifest.reopen(self.model, shard))

    def restore(self) -> tuple[Answer, Answer]:
        shard = self.shard()
        restored = self.real.restore(shard, Progress(0, NUM_BATCHES, 0))
        return self.said(restored, "refused"), self.follow(manifest.restore(self.model, shard))

    def cancel(self) -> tuple[Answer, Answer]:
        return (str(self.real.cancel()),), self.follow(manifest.cancel(self.model))

    def revive(self) -> tuple[Answer, Answer]:
        return (self.real.revive(),), self.follow(manifest.revive(self.model))

    def shard(self) -> int:
        return self.random.randrange(NUM_SHARDS)

    def lease(self) -> Lease:
        """The shard's own, or the one before."""
        shard = self.shard()
        late = self.random.random() < 0.2
        return Lease(self.job.shards[shard], self.model.entries[shard].token - late)

    def real_lease(self, lease: Lease) -> Lease:
        # A shard that nobody was given yet has the token 0 on both sides.
        return replace(lease, token=lease.token + self.first) if lease.token else lease

    def follow(self, outcome: tuple[Manifest, Answer]) -> Answer:
        self.model, answer = outcome
        return answer

    @staticmethod
    def said(accepted: bool, refusal: str) -> Answer:
        return ("ok",) if accepted else (refusal,)

    def differences(self) -> list[tuple[object, object]]:
        job = self.real.job_status()
        assert job is not None
        pairs: list[tuple[object, object]] = [(str(job.state), self.model.job)]
        statuses = self.real.shard_statuses(range(NUM_SHARDS))
        for real, entry in zip(statuses, self.model.entries, strict=True):
            seen = (
                str(real.state),
                max(real.token - self.first, 0),
                real.attempts,
                real.batches_done,
                real.sequences_done,
            )
            pairs.append((seen, entry[:5]))
        pairs.append((job.sequences_done, sum(entry.counted for entry in self.model.entries)))
        return [(real, model) for real, model in pairs if real != model]


CALLS: list[Callable[[Pair], tuple[Answer, Answer]]] = [
    *(4 * [Pair.acquire]), *(3 * [Pair.beat]), *(3 * [Pair.release]), Pair.complete, Pair.fail, Pair.expire,
    Pair.reopen, Pair.restore, Pair.cancel, *(2 * [Pair.revive]),
]  # fmt: skip


def walk(client: redis.Redis, seed: int, num_calls: int) -> set[str | int]:
    """Answers what was heard on the way."""
    random = Random(seed)
    pair = Pair(client, random)
    walked: list[tuple[str, Answer]] = []
    for _ in range(num_calls):
        call = Pair.flush if random.random() < 0.02 else random.choice(CALLS)
        real, model = call(pair)
        walked.append((call.__name__, real))
        assert (real, pair.differences()) == (model, []), (seed, walked[-20:])
    return {answer[0] for _, answer in walked if answer}


def test_the_models_manifest_answers_as_the_real_one(client: redis.Redis) -> None:
    heard = set().union(*(walk(client, seed, 400) for seed in range(10)))
    answers = {"ok", "lost", "held", "exhausted", "incomplete", "refused", DONE, FAILED, CANCELLED}
    assert answers <= heard
