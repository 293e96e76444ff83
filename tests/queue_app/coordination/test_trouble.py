"""Trouble on a real server: counted per worker, and the end of a job that no worker can begin."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from queue_app.coordination.dealing import leave, tick
from queue_app.coordination.events import EventKind, read_events
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.states import TIMES_MOST, JobState, Lease
from queue_app.coordination.trouble import (
    PASSING_TIMES_MOST,
    Pauses,
    TroubleRegister,
    give_up_hopeless,
    seconds_to_rest,
)
from queue_app.coordination.workers import Owner, WorkerEntry
from queue_app.errors import ModelError
from queue_app.job.spec import Job
from queue_app.model.files import check_files
from queue_app.model.spec import ModelFile
from queue_app.settings import RuntimeConfig
from queue_app.status.snapshot import snapshot
from queue_app.worker.child_deaths import DeathReports
from queue_app.worker.child_state import ChildState, LastStage, Stage
from tests.support.jobs_and_inputs import make_job

LEASE_SECONDS = 15.0
PAUSES = Pauses(alone=10.0, among_others=300.0, lease_seconds=LEASE_SECONDS)
REASON = "/m/esm2: no such model"


@pytest.fixture
def job() -> Job:
    return make_job(num_shards=4, records_per_shard=2)


@pytest.fixture
def manifest(client: redis.Redis, job: Job) -> CheckpointManifest:
    """It waits for cpu0 and cpu1, which both have a worker."""
    made = CheckpointManifest(client, job.job_id)
    made.initialize(job, "/jobs/a", {}, ["cpu0", "cpu1"])
    come_up(client, "cpu0")
    come_up(client, "cpu1")
    return made


@pytest.fixture
def troubles(manifest: CheckpointManifest) -> TroubleRegister:
    return TroubleRegister(manifest.client, manifest.job_id, PAUSES)


def worker(queue: str, owner: str = "") -> WorkerEntry:
    return WorkerEntry(f"{queue}@host", queue, "cpu", "host", 1, 2, owner)


def come_up(client: redis.Redis, queue: str, owner: str = "") -> None:
    tick(client, worker(queue, owner))


def fail(
    troubles: TroubleRegister, queue: str, times: int = TIMES_MOST, *, times_most: int = TIMES_MOST
) -> None:
    for _ in range(times):
        troubles.note(worker(queue), REASON, times_most=times_most)


def give_up(troubles: TroubleRegister, manifest: CheckpointManifest) -> str | None:
    return give_up_hopeless(troubles, manifest, LEASE_SECONDS)


def state(manifest: CheckpointManifest) -> JobState:
    status = manifest.job_status()
    assert status is not None
    return status.state


# ---- counting


def test_failures_in_a_row_are_counted_and_shown_with_the_worker(
    troubles: TroubleRegister, manifest: CheckpointManifest
) -> None:
    fail(troubles, "cpu1", 2)
    seen = snapshot(manifest.client, manifest.job_id, lease_seconds=LEASE_SECONDS)
    assert seen is not None
    good, bad = seen.workers
    assert good.trouble is None
    assert bad.trouble is not None
    assert (bad.trouble.text, bad.trouble.times) == (REASON, 2)


def test_the_same_failure_is_one_event_however_often_it_comes(
    troubles: TroubleRegister, manifest: CheckpointManifest
) -> None:
    fail(troubles, "cpu1", 5)
    troubles.note(worker("cpu1"), "another")
    events = read_events(manifest.client, manifest.job_id)
    assert [event.text for event in events] == [
        f"cpu1@host cannot begin: {REASON}",
        "cpu1@host cannot begin: another",
    ]
    assert {event.kind for event in events} == {EventKind.TROUBLE}


def test_a_shard_that_is_begun_ends_the_trouble(troubles: TroubleRegister) -> None:
    fail(troubles, "cpu1")
    troubles.clear("cpu1@host")
    assert troubles.all() == {}
    assert troubles.note(worker("cpu1"), REASON).times == 1


def test_pauses_grow_and_are_long_only_while_another_worker_is_well(
    troubles: TroubleRegister, manifest: CheckpointManifest
) -> None:
    among_others = [troubles.wait_seconds(troubles.note(worker("cpu0"), REASON)) for _ in range(12)]
    assert among_others[0] <= 1
    assert 8 < among_others[4] <= 16
    assert 150 < among_others[-1] <= 300
    alone = [troubles.wait_seconds(troubles.note(worker("cpu1"), REASON)) for _ in range(12)]
    assert alone[0] <= 1
    assert 4 < alone[-1] <= 10


def test_a_clock_that_is_set_back_makes_no_pause_longer(troubles: TroubleRegister) -> None:
    noted = troubles.note(worker("cpu0"), REASON)
    assert troubles.wait_seconds(replace(noted, retry_at=noted.retry_at + 1e6)) == PAUSES.among_others
    assert troubles.wait_seconds(replace(noted, retry_at=0.0)) == 0


def test_a_worker_that_is_left_alone_looks_again_soon(
    troubles: TroubleRegister, manifest: CheckpointManifest
) -> None:
    fail(troubles, "cpu0", 12)
    assert seconds_to_rest(manifest.client, worker("cpu0"), PAUSES) > 100  # type: ignore[operator]
    leave(manifest.client, "cpu1@host")
    assert seconds_to_rest(manifest.client, worker("cpu0"), PAUSES) <= 10  # type: ignore[operator]
    assert troubles.wait_seconds(troubles.all()["cpu0@host"]) <= 10, "as everybody sees it"


def test_a_worker_rests_only_while_it_is_in_trouble_with_every_job_that_runs(
    troubles: TroubleRegister, manifest: CheckpointManifest
) -> None:
    client = manifest.client
    assert seconds_to_rest(client, worker("cpu0"), PAUSES) is None
    fail(troubles, "cpu0", 5)
    assert seconds_to_rest(client, worker("cpu0"), PAUSES) > 1  # type: ignore[operator]
    assert seconds_to_rest(client, worker("cpu1"), PAUSES) is None
    other = make_job(num_shards=1, records_per_shard=2)
    second = CheckpointManifest(client, other.job_id.replace("-c", "-d"))
    second.initialize(other, "/jobs/b", {}, ["cpu0"])
    assert seconds_to_rest(client, worker("cpu0"), PAUSES) == 0
    second.pause()
    assert seconds_to_rest(client, worker("cpu0"), PAUSES) > 1  # type: ignore[operator]


# ---- when it ends a job


def test_a_job_ends_when_every_worker_fails_again_and_again(
    troubles: TroubleRegister, manifest: CheckpointManifest
) -> None:
    fail(troubles, "cpu0")
    fail(troubles, "cpu1")
    reason = give_up(troubles, manifest)
    assert reason == f"{REASON} (6 times on cpu0@host, cpu1@host)"
    assert state(manifest) is JobState.FAILED
    assert [status.error for status in manifest.shard_statuses(range(4))] == [reason] * 4
    seen = snapshot(manifest.client, manifest.job_id, lease_seconds=LEASE_SECONDS)
    assert seen is not None
    assert seen.reason == f"given up: {reason}"


@pytest.mark.parametrize("queue", ["cpu0", "cpu1"])
def test_one_bad_worker_ends_nothing(
    queue: str, troubles: TroubleRegister, manifest: CheckpointManifest
) -> None:
    fail(troubles, queue, 50)
    assert give_up(troubles, manifest) is None
    assert state(manifest) is JobState.RUNNING
    assert troubles.others_awake(worker(queue)) == [{"cpu0": "cpu1@host", "cpu1": "cpu0@host"}[queue]]


def test_a_good_worker_for_which_nothing_waits_is_hope_too(
    troubles: TroubleRegister, manifest: CheckpointManifest
) -> None:
    come_up(manifest.client, "cpu2")
    fail(troubles, "cpu0")
    fail(troubles, "cpu1")
    assert give_up(troubles, manifest) is None
    assert troubles.others_awake(worker("cpu0")) == ["cpu2@host"]


def test_a_worker_of_another_kind_of_device_is_none(
    troubles: TroubleRegister, manifest: CheckpointManifest
) -> None:
    come_up(manifest.client, "gpu0")
    fail(troubles, "cpu0")
    fail(troubles, "cpu1")
    assert troubles.others_awake(worker("cpu0")) == []
    assert give_up(troubles, manifest) is not None


def test_while_a_shard_is_at_work_there_is_hope(
    troubles: TroubleRegister, manifest: CheckpointManifest, job: Job
) -> None:
    lease = manifest.acquire(job.shards[0], owner="cpu0@host", floor=0, attempt_limit=20)
    assert isinstance(lease, Lease)
    fail(troubles, "cpu0")
    fail(troubles, "cpu1")
    assert give_up(troubles, manifest) is None


def test_a_worker_that_comes_up_or_died_just_now_may_be_a_good_one(
    troubles: TroubleRegister, manifest: CheckpointManifest
) -> None:
    fail(troubles, "cpu1")
    fail(troubles, "cpu0")
    gone = subprocess.Popen([sys.executable, "-c", ""])
    owner = replace(Owner.current("cpu2@host"), process=replace(Owner.current("").process, pid=gone.pid))
    gone.wait()
    come_up(manifest.client, "cpu2", owner.encode())
    assert give_up(troubles, manifest) is None
    manifest.client.hdel("holdfast:workers", "cpu2@host", "cpu1@host")
    assert give_up(troubles, manifest) is None, "a queue whose worker has not come up yet"


def test_what_may_pass_by_itself_is_given_more_time(
    troubles: TroubleRegister, manifest: CheckpointManifest
) -> None:
    for queue in ("cpu0", "cpu1"):
        fail(troubles, queue, PASSING_TIMES_MOST - 1, times_most=PASSING_TIMES_MOST)
    assert give_up(troubles, manifest) is None
    for queue in ("cpu0", "cpu1"):
        fail(troubles, queue, 1, times_most=PASSING_TIMES_MOST)
    assert give_up(troubles, manifest) is not None


def test_a_job_that_was_given_up_goes_on_as_if_no_worker_had_tried(
    troubles: TroubleRegister, manifest: CheckpointManifest
) -> None:
    fail(troubles, "cpu0")
    fail(troubles, "cpu1")
    give_up(troubles, manifest)
    assert manifest.revive() == 4
    assert state(manifest) is JobState.RUNNING
    assert troubles.all() == {}


def test_a_paused_job_is_not_given_up(troubles: TroubleRegister, manifest: CheckpointManifest) -> None:
    fail(troubles, "cpu0")
    fail(troubles, "cpu1")
    manifest.pause()
    assert give_up(troubles, manifest) is None
    assert not manifest.abandon("whatever")
    assert state(manifest) is JobState.PAUSED


# ---- children that cannot tell any more


def report(child: ChildState, pid: int, exit_code: int, client: redis.Redis) -> None:
    """Hear of the end of a child of cpu1, and tell of it."""
    reports = DeathReports(child)
    reports.hear(pid, exit_code)
    config = RuntimeConfig(lease_seconds=LEASE_SECONDS)
    reports.send(client, worker("cpu1"), config)


@pytest.mark.parametrize("stage", [Stage.GETTING_READY, Stage.STARTING])
def test_a_child_that_dies_before_it_has_a_shard_is_its_workers_trouble(
    stage: Stage, troubles: TroubleRegister, manifest: CheckpointManifest
) -> None:
    child = ChildState()
    pid = os.getpid() if stage is Stage.GETTING_READY else os.getpid() + 1
    child.set_stage(Stage.GETTING_READY, manifest.job_id)
    report(child, pid, -9, manifest.client)
    assert "was killed by signal 9 (SIGKILL), probably out of memory" in troubles.all()["cpu1@host"].text


def test_a_child_that_dies_at_work_is_told_and_is_no_trouble(
    troubles: TroubleRegister, manifest: CheckpointManifest
) -> None:
    child = ChildState()
    child.set_stage(Stage.AT_WORK, manifest.job_id)
    report(child, os.getpid(), -11, manifest.client)
    assert troubles.all() == {}
    (event,) = read_events(manifest.client, manifest.job_id)
    assert event.kind is EventKind.WORKER
    assert "while it computed its process was killed by signal 11 (SIGSEGV)" in event.text


@pytest.mark.parametrize("stage", [Stage.IDLE, Stage.TOLD])
def test_an_idle_child_or_one_that_has_told_is_no_trouble(
    stage: Stage, troubles: TroubleRegister, manifest: CheckpointManifest
) -> None:
    child = ChildState()
    child.set_stage(stage, manifest.job_id)
    report(child, os.getpid(), 1, manifest.client)
    assert troubles.all() == {}
    assert read_events(manifest.client, manifest.job_id) == ()


def test_a_child_is_idle_again_after_what_it_did_and_unknown_before() -> None:
    child = ChildState()
    assert child.last_stage(os.getpid()) == LastStage(Stage.STARTING)
    with child.during(Stage.GETTING_READY, "0123456789ab-cafecafe"):
        assert child.last_stage(os.getpid()) == LastStage(Stage.GETTING_READY, "0123456789ab-cafecafe")
    assert child.last_stage(os.getpid()) == LastStage(Stage.IDLE)


# ---- the model's files


def test_the_first_file_that_is_missing_or_another_one_is_named(tmp_path: Path) -> None:
    import xxhash

    def file(name: str, content: bytes) -> ModelFile:
        (tmp_path / name).write_bytes(content)
        return ModelFile(name, len(content), xxhash.xxh3_128_hexdigest(content))

    files = [file("config.json", b"{}"), file("a.safetensors", b"12345678"), file("b.safetensors", b"abc")]
    check_files(files, tmp_path)
    (tmp_path / "a.safetensors").write_bytes(b"12345679")
    with pytest.raises(ModelError, match=r"a\.safetensors: not the file of the job's model"):
        check_files(files, tmp_path)
    (tmp_path / "a.safetensors").write_bytes(b"1234")
    with pytest.raises(ModelError, match=r"a\.safetensors: 4 bytes, not the 8 of the job's model"):
        check_files(files, tmp_path)
    (tmp_path / "a.safetensors").unlink()
    with pytest.raises(ModelError, match=r"a\.safetensors: No such file or directory"):
        check_files(files, tmp_path)
