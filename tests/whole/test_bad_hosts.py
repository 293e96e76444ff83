"""A bad host hurts itself only: others do the job, no shard pays for it; once it is mended it works again.

Real workers, and a host of its own for the bad one: its mounts, its process table and its name.
"""

import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

from queue_app.celery_app import EXPORT_JOB, make_app
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.job.directory import JobDir
from queue_app.job.history import Outcome, read_history
from queue_app.status.snapshot import snapshot
from tests.support import ROOT
from tests.support.command_runs import holdfast, running
from tests.support.jobs_and_inputs import write_fasta
from tests.support.model_directories import save_esm2
from tests.support.other_host import OtherHost, can_be_hosts
from tests.support.waiting import wait_for

pytestmark = pytest.mark.skipif(not can_be_hosts(), reason="needs user namespaces, to be another host")

SLOW_MOCK = "mock:8,delay_ms=300"
NUM_RECORDS = 90
PATIENT = {"HOLDFAST_LEASE_SECONDS": "15"}
"""So long a lease that the good worker is waited for while it comes up."""


@dataclass(frozen=True, slots=True)
class Enqueued:
    """A job on the server, whose directory lies in `jobs`, which all hosts share."""

    job_id: str
    home: Path
    env: dict[str, str]
    client: redis.Redis

    @property
    def directory(self) -> JobDir:
        return JobDir(self.home / "jobs" / "out.npy.holdfast")

    def status(self) -> dict[str, Any]:
        seen = snapshot(self.client, self.job_id, lease_seconds=15)
        assert seen is not None
        return seen.as_json()

    def trouble_of(self, name: str) -> dict[str, Any] | None:
        found = [worker["trouble"] for worker in self.status()["workers"] if worker["name"] == name]
        return found[0] if found else None

    def num_done(self) -> int:
        return int(self.status()["shards"]["done"])

    def attempts(self) -> list[int]:
        manifest = CheckpointManifest(self.client, self.job_id)
        return [shard.attempts for shard in manifest.all_statuses(self.status()["shards"]["total"])]

    def done_by(self, name: str) -> int:
        history = read_history(self.directory, self.job_id)
        return sum(attempt.worker == name and attempt.outcome is Outcome.DONE for attempt in history.attempts)


Enqueue = Callable[..., Enqueued]


@pytest.fixture
def enqueue(tmp_path: Path, client: redis.Redis, server_url: str) -> Enqueue:
    def enqueue(model: str | Path = SLOW_MOCK, **env: str) -> Enqueued:
        broker = {"HOLDFAST_BROKER_URL": server_url, **PATIENT, **env}
        (tmp_path / "jobs").mkdir()
        fasta = write_fasta(tmp_path / "a.fasta", NUM_RECORDS)
        output = tmp_path / "jobs" / "out.npy"
        command = ["enqueue", fasta, "-m", model, "-o", output, "--queues", "cpu0,cpu1", "--shards", "30"]
        return Enqueued(holdfast(*command, **broker).stdout.strip(), tmp_path, broker, client)

    return enqueue


# ---- what is wrong with the host, how it is mended, and what is said of it

SCRATCHES = {
    "a file in its place": ("touch scratch", "rm scratch; mkdir scratch", "File exists: .*scratch"),
    "read-only": (
        "mkdir scratch; mount -t tmpfs -o ro tmpfs scratch",
        "mount -o remount,rw scratch",
        "Read-only file system: .*scratch",
    ),
    "full": (
        "mkdir scratch; mount -t tmpfs -o size=16k tmpfs scratch",
        "mount -o remount,size=64m scratch",
        "scratch.*the disk is full",
    ),
}
VIEWS = {
    "nothing mounted": (
        "mount -t tmpfs tmpfs jobs",
        "umount jobs",
        "does not see the job's directory",
    ),
    "another job there": (
        "mount --bind other jobs/out.npy.holdfast",
        "umount jobs/out.npy.holdfast",
        "does not see the job's directory; what lies there belongs to job [0-9a-f]+-",
    ),
}
MODEL = ("mount -t tmpfs tmpfs models", "umount models", "models/esm2")


@pytest.mark.parametrize(("spoil", "mend", "says"), SCRATCHES.values(), ids=SCRATCHES.keys())
def test_a_host_without_scratch_costs_no_shard_an_attempt_and_works_once_it_has_one(
    spoil: str, mend: str, says: str, enqueue: Enqueue, tmp_path: Path
) -> None:
    bad = OtherHost(tmp_path, spoil, mend)
    check_bad_host(enqueue(), bad, says, HOLDFAST_SCRATCH=str(tmp_path / "scratch"))


@pytest.mark.parametrize(("spoil", "mend", "says"), VIEWS.values(), ids=VIEWS.keys())
def test_a_host_that_does_not_see_the_job_says_so_and_works_once_it_does(
    spoil: str, mend: str, says: str, enqueue: Enqueue, tmp_path: Path
) -> None:
    job = enqueue()
    (tmp_path / "other").mkdir()
    content = job.directory.job_json.read_text().replace(job.job_id, "0123456789ab-cafecafe")
    (tmp_path / "other" / "job.json").write_text(content)
    check_bad_host(job, OtherHost(tmp_path, spoil, mend), says)


def test_a_host_without_the_model_says_so_and_works_once_it_has_it(enqueue: Enqueue, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    model = save_esm2(tmp_path / "models" / "esm2")
    spoil, mend, says = MODEL
    check_bad_host(enqueue(model), OtherHost(tmp_path, spoil, mend), says)


def check_bad_host(job: Enqueued, bad: OtherHost, says: str, **env: str) -> None:
    """Alone it says what is wrong; beside a good one it costs nothing; mended it does the rest alone."""
    with bad.worker(**job.env, **env):
        wait_for(lambda: job.trouble_of("cpu1@bad"), "the trouble of the bad host")
        assert "cannot begin: " in holdfast("status", job.job_id, **job.env).stdout
        with running("worker", "cpu0", output=subprocess.DEVNULL, **job.env) as good:
            wait_for(lambda: job.num_done() >= 2, "the good host to get on")
            good.terminate()  # it gives its shard back
            good.wait(timeout=60)
        seen = job.status()
        assert seen["state"] == "running"
        trouble = job.trouble_of("cpu1@bad")
        assert trouble is not None
        assert re.search(says, trouble["text"]), trouble
        assert job.done_by("cpu1@bad") == 0
        bad.mend()
        wait_for(lambda: job.status()["state"] == "done", "the mended host to end the job", seconds=120)
        wait_for(lambda: (job.home / "jobs" / "out.npy").exists(), "the output")
    events = [(event["kind"], event["text"]) for event in job.status()["events"]]
    assert any(kind == "trouble" for kind, _ in events)
    assert [text for kind, text in events if kind in ("retried", "failed", "recovered")] == []
    assert max(job.attempts()) <= 1
    assert job.done_by("cpu1@bad") >= 1
    assert np.load(job.home / "jobs" / "out.npy").shape[0] == NUM_RECORDS
    assert "Canceling queue cpu1" in bad.log.read_text(), "it left the queue to others"
    assert "Started consuming from cpu1" in bad.log.read_text()


# ---- what would fail anywhere, and fails on one host only

RAISES = """
from types import ModuleType
from tests.support.after_import import change_after_import


def spoil(module: ModuleType) -> None:
    def compute(*_: object) -> None:
        raise ValueError("of this host")

    module.OpenShard.compute = compute


change_after_import({"gpu_tasks.shard.shard_run": spoil})
"""


def test_a_shard_that_fails_again_and_again_on_one_host_is_done_on_another(
    enqueue: Enqueue, tmp_path: Path
) -> None:
    (tmp_path / "ill").mkdir()
    (tmp_path / "ill" / "sitecustomize.py").write_text(RAISES)
    job = enqueue(HOLDFAST_ATTEMPT_LIMIT="2", HOLDFAST_RETRY_SECONDS="1")
    bad = OtherHost(tmp_path, "true", "true")
    with (
        bad.worker(**job.env, PYTHONPATH=f"{tmp_path / 'ill'}:{ROOT}"),
        running("worker", "cpu0", output=subprocess.DEVNULL, **job.env),
    ):
        wait_for(lambda: job.status()["state"] in ("done", "failed"), "the job to end", seconds=150)
    assert job.status()["state"] == "done"
    assert job.done_by("cpu1@bad") == 0
    tried = [a for a in read_history(job.directory, job.job_id).attempts if a.worker == "cpu1@bad"]
    assert len(tried) > 2, "the bad host spent some attempts"


# ---- the output


def test_an_output_that_a_bad_host_is_asked_for_is_written_by_another(
    enqueue: Enqueue, tmp_path: Path, server_url: str
) -> None:
    job = enqueue("mock:8")
    output = tmp_path / "jobs" / "out.npy"
    bad = OtherHost(tmp_path, "mount -t tmpfs tmpfs jobs", "true")
    with running("worker", "cpu0", output=subprocess.DEVNULL, **job.env):
        wait_for(output.exists, "the output")
        with bad.worker(**job.env):
            wait_for(lambda: "ready." in bad.log.read_text(), "the bad host")
            output.unlink()
            make_app(server_url).send_task(EXPORT_JOB, args=[job.job_id], queue="cpu1")
            wait_for(output.exists, "the output to be written again")
    assert "output not written" in bad.log.read_text()
