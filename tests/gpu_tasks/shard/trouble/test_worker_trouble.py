"""What becomes of a shard, and of the worker, when the host fails it. A real server, no worker processes."""

import errno
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import redis

from checkpoint.crash_log import CrashLog
from gpu_tasks.shard.attempt_end import tell_failure
from gpu_tasks.shard.getting_ready import GettingReady
from gpu_tasks.shard.guarded_run import GuardedRun
from gpu_tasks.shard.trouble import worker_trouble
from gpu_tasks.shard.trouble.worker_trouble import give_back_unbegun, register_of, tell_export_failed
from queue_app.celery_app import make_app
from queue_app.coordination import keys
from queue_app.coordination.dealing import deal_to, leave, tick
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.states import JobState, Lease, ShardState
from queue_app.coordination.workers import Owner, WorkerEntry, server_time
from queue_app.errors import Damage
from queue_app.job.directory import JobDir
from queue_app.job.spec import Job
from queue_app.trust.job_places import JobPlaces
from queue_app.worker.device_worker import this_worker
from tests.support.inline_job import submitted
from tests.support.jobs_and_inputs import write_fasta

EIO = OSError(errno.EIO, "Input/output error", "/scratch")
GOOD = WorkerEntry("cpu1@good", "cpu1", "cpu", "good", 1, 2, "cpu1@good|other|1|1")
BAD = WorkerEntry("cpu0@bad", "cpu0", "cpu", "bad", 1, 2, Owner.current("cpu0@bad").encode())


@pytest.fixture
def directory(tmp_path: Path) -> JobDir:
    fasta = write_fasta(tmp_path / "a.fasta", 12)
    return submitted(tmp_path / "jobs" / "out.npy", [fasta]).job_dir


@pytest.fixture
def job(directory: JobDir) -> Job:
    return directory.load()


@pytest.fixture
def manifest(
    client: redis.Redis, server_url: str, job: Job, directory: JobDir, monkeypatch: pytest.MonkeyPatch
) -> CheckpointManifest:
    """A job of three shards. This process is the worker of the bad host; the good one's lives elsewhere."""
    monkeypatch.setattr(worker_trouble, "app", make_app(server_url))
    monkeypatch.setattr(this_worker, "entry", BAD)
    made = CheckpointManifest(client, job.job_id)
    made.initialize(job, str(directory.path), {}, ["cpu0", "cpu1"])
    for entry in (GOOD, BAD):
        tick(client, entry)
    return made


def dealt(manifest: CheckpointManifest, server_url: str, entry: WorkerEntry = BAD) -> int:
    """The shard that a worker was dealt."""
    assert deal_to(manifest.client, make_app(server_url), entry)
    (index,) = [shard.index for shard in manifest.all_statuses(3) if shard.worker == entry.name]
    return index


def acquire(manifest: CheckpointManifest, job: Job, index: int = 0) -> Lease:
    lease = manifest.acquire(job.shards[index], owner=BAD.owner, floor=0, attempt_limit=20)
    assert isinstance(lease, Lease)
    return lease


def attempts(manifest: CheckpointManifest) -> list[int]:
    return [shard.attempts for shard in manifest.all_statuses(3)]


def fail(manifest: CheckpointManifest, lease: Lease, error: Exception) -> str | None:
    history = cast("Any", SimpleNamespace(fail=lambda reason: None))
    return tell_failure(manifest, lease, history, error)


def places_of(directory: JobDir) -> JobPlaces:
    """As a host finds jobs whose roots hold this directory."""
    return JobPlaces([directory.path.parent], set, lambda _: [])


def never(*_: object) -> None:
    raise AssertionError("a worker that rests begins nothing")


# ---- before it has the shard


def test_who_fails_to_begin_gives_the_shard_to_others_and_rests(
    manifest: CheckpointManifest, directory: JobDir, server_url: str
) -> None:
    def load(*_: object) -> None:
        raise EIO

    index = dealt(manifest, server_url)
    assert GettingReady(manifest, places_of(directory), index).begin(load) == "in trouble"
    shard = manifest.shard_status(index)
    assert shard is not None
    assert (shard.state, shard.worker, shard.attempts) == (ShardState.PENDING, "", 0)
    assert GettingReady(manifest, places_of(directory), index).begin(never) == "resting"
    assert not deal_to(manifest.client, make_app(server_url), BAD), "it is passed over"
    assert dealt(manifest, server_url, GOOD) == index


def test_what_was_dealt_to_another_meanwhile_stays_with_it(
    manifest: CheckpointManifest, server_url: str
) -> None:
    index = dealt(manifest, server_url, GOOD)
    give_back_unbegun(manifest, index)
    shard = manifest.shard_status(index)
    assert shard is not None
    assert shard.worker == GOOD.name


def away(directory: JobDir) -> None:
    shutil.rmtree(directory.path)


def empty(directory: JobDir) -> None:
    away(directory)
    directory.path.mkdir()


def of_another(directory: JobDir) -> None:
    job = directory.load()
    text = directory.job_json.read_text().replace(job.job_id, "0123456789ab-cafecafe")
    directory.job_json.write_text(text)


@pytest.mark.parametrize("spoil", [away, empty, of_another])
def test_a_directory_that_only_this_host_does_not_see_is_its_trouble(
    spoil: Callable[[JobDir], None], manifest: CheckpointManifest, directory: JobDir
) -> None:
    spoil(directory)
    assert GettingReady(manifest, places_of(directory), 0).begin(never) == "in trouble"
    trouble = register_of(manifest).of(BAD.name)
    assert trouble is not None
    assert "this host does not see the job's directory" in trouble.text


@pytest.mark.parametrize("spoil", [away, empty, of_another])
def test_a_job_that_the_server_forgot_was_replaced_and_is_nobodys_trouble(
    spoil: Callable[[JobDir], None], manifest: CheckpointManifest, directory: JobDir
) -> None:
    spoil(directory)
    manifest.forget()
    assert GettingReady(manifest, places_of(directory), 0).begin(never) == "unknown"
    assert register_of(manifest).all() == {}


# ---- while it has the shard


def test_what_the_host_fails_at_costs_the_shard_nothing_and_is_the_workers_trouble(
    manifest: CheckpointManifest, job: Job
) -> None:
    for times in range(1, 4):
        assert fail(manifest, acquire(manifest, job), EIO) == "in trouble"
        trouble = register_of(manifest).of(BAD.name)
        assert trouble is not None
        assert (trouble.times, trouble.at_work) == (times, True)
    assert attempts(manifest) == [0, 0, 0]


def test_the_worker_is_known_to_be_in_trouble_before_the_shard_is_free(
    manifest: CheckpointManifest, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or what is dealt to it next is the very shard that it failed at."""
    known: list[bool] = []
    release = CheckpointManifest.release

    def watch(self: CheckpointManifest, *arguments: Any, **options: Any) -> bool:
        known.append(register_of(self).of(BAD.name) is not None)
        return release(self, *arguments, **options)

    monkeypatch.setattr(CheckpointManifest, "release", watch)
    fail(manifest, acquire(manifest, job), EIO)
    assert known == [True]


def test_what_nothing_of_the_host_explains_spends_an_attempt_and_is_no_trouble(
    manifest: CheckpointManifest, job: Job
) -> None:
    assert fail(manifest, acquire(manifest, job), ValueError("of this test")) == "to be tried again"
    assert attempts(manifest) == [1, 0, 0]
    assert register_of(manifest).all() == {}


def test_a_shard_that_failed_is_dealt_again_the_later_the_more_often_it_failed(
    manifest: CheckpointManifest, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Celery sends nothing again: the manifest has it wait, counts the attempts, and shows why."""
    pauses: list[int] = []
    monkeypatch.setattr(worker_trouble, "pause_seconds", lambda times, most: pauses.append(times) or 30.0)
    for _ in range(3):
        fail(manifest, acquire(manifest, job), ValueError("of this test"))
    assert pauses == [1, 2, 3]
    assert manifest.client.zscore(keys.DELAYED, f"{job.job_id} 0") > server_time(manifest.client) + 20
    shard = manifest.shard_status(0)
    assert shard is not None
    assert shard.error == "ValueError: of this test"


def test_an_output_that_this_host_cannot_write_is_asked_of_another(
    manifest: CheckpointManifest, client: redis.Redis, job: Job
) -> None:
    client.hset(keys.job(job.job_id), "state", "done")
    assert tell_export_failed(manifest, EIO) == "passed on"
    assert client.llen(GOOD.name) == 1
    noted = register_of(manifest).of(BAD.name)
    assert noted is not None
    assert (noted.times, noted.text) == (1, f"OSError: {EIO}")


@pytest.mark.parametrize("error", [EIO, Damage("a result is broken"), ValueError("of this test")], ids=repr)
def test_an_output_that_nobody_else_can_write_is_counted_as_trouble_and_left_to_the_reconciler(
    manifest: CheckpointManifest, client: redis.Redis, error: Exception
) -> None:
    leave(client, GOOD.name)
    for times in (1, 2):
        assert tell_export_failed(manifest, error) == "to be asked for again"
        noted = register_of(manifest).of(BAD.name)
        assert noted is not None
        assert noted.times == times
        assert not noted.is_lasting
    assert client.llen(BAD.name) == client.llen("cpu0") == 0


def test_trouble_at_work_is_not_over_because_another_shard_was_begun(
    manifest: CheckpointManifest, directory: JobDir, job: Job
) -> None:
    fail(manifest, acquire(manifest, job), EIO)
    register = register_of(manifest)
    register.client.hset(f"holdfast:{{{job.job_id}}}:trouble", BAD.name, _looks_again(manifest))
    begun = GettingReady(manifest, places_of(directory), 1).begin(lambda *_: None)
    assert not isinstance(begun, str)
    assert register.of(BAD.name) is not None
    fail(manifest, begun.lease, EIO)
    trouble = register.of(BAD.name)
    assert trouble is not None
    assert trouble.times == 2


def _looks_again(manifest: CheckpointManifest) -> str:
    """This worker's trouble, with its pause over."""
    trouble = register_of(manifest).of(BAD.name)
    assert trouble is not None
    return json.dumps(asdict(replace(trouble, retry_at=0.0)))


def test_a_job_that_every_host_fails_at_ends_with_the_reason(
    manifest: CheckpointManifest, job: Job, client: redis.Redis
) -> None:
    leave(client, GOOD.name)
    client.hset(f"holdfast:{{{job.job_id}}}:job", "announced", 0)  # nobody else is on the way
    ended = [fail(manifest, acquire(manifest, job), ImportError("libcuda.so")) for _ in range(3)]
    assert ended == ["in trouble", "in trouble", "given up"]
    status = manifest.job_status()
    assert status is not None
    assert status.state is JobState.FAILED


# ---- who is accused of it


@pytest.mark.parametrize(
    ("error", "suspects"), [(EIO, ()), (MemoryError(), ()), (ValueError("of this test"), (0,))], ids=repr
)
def test_a_host_that_fails_accuses_no_record(
    error: Exception, suspects: tuple[int, ...], tmp_path: Path
) -> None:
    def run(*_: object, on_start: Callable[[int], None], **__: object) -> Iterator[None]:
        on_start(0)
        raise error
        yield

    guarded = GuardedRun(
        runner=cast("Any", SimpleNamespace(run=run)),
        plan=cast("Any", None),
        crash_log=CrashLog.open(tmp_path / "flight.json"),
        committed=(),
        excluded=(),
        should_stop=lambda: False,
    )
    with pytest.raises(type(error)):
        list(guarded.results())
    assert CrashLog.open(tmp_path / "flight.json").suspects == suspects
