"""No silent wait: a model that is not there, and a worker that cannot begin, are said, counted and ended.

Real commands, workers and servers. A worker is made ill by a `torch.py` that only it imports: it raises,
or ends the process, when a model is loaded.
"""

import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

from tests.support.command_runs import holdfast, left_over, running, status
from tests.support.inline_job import submitted
from tests.support.jobs_and_inputs import write_fasta
from tests.support.model_directories import change_weights, save_esm2
from tests.support.waiting import wait_for

NUM_RECORDS = 24
ONE = ["--device", "cpu", "--workers", "1"]
KILLED = "import os; os.kill(os.getpid(), 9)"
LOST = "raise RuntimeError('CUDA error: unspecified launch failure')"
FULL = "raise MemoryError('of this test')"
BROKEN = "raise ImportError('no such symbol: of this test')"


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    return write_fasta(tmp_path / "a.fasta", NUM_RECORDS)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_esm2(tmp_path / "esm2")


@pytest.fixture
def job_dir(fasta: Path, model: Path, tmp_path: Path) -> Path:
    """A job that stands in its directory, and of which nothing is computed yet."""
    return submitted(tmp_path / "out.npy", [fasta], model=str(model)).job_dir.path


def embed(fasta: Path, model: Path, output: Path) -> list[str | Path]:
    """The command whose job `job_dir` is."""
    return ["embed", fasta, "-m", model, "-o", output, *ONE, "--toks-per-batch", "400", "--shards", "3"]


def ill(tmp_path: Path, how: str) -> dict[str, str]:
    """The environment of workers that fail so when they load a model."""
    folder = tmp_path / "ill"
    folder.mkdir(exist_ok=True)
    (folder / "torch.py").write_text(how)
    return {"PYTHONPATH": str(folder), "HOLDFAST_RETRY_SECONDS": "1", "HOLDFAST_PRELOAD_TORCH": "0"}


def processes_of(job_dir: Path) -> list[int]:
    recorded = json.loads((job_dir / "processes.json").read_text())
    return [process["pid"] for process in recorded.values()]


@contextlib.contextmanager
def workers(*queues: str, **env: str) -> Iterator[None]:
    with running("worker", *queues, output=subprocess.DEVNULL, **env):
        yield


# ---- the model is looked for before anything starts


def test_a_model_that_was_moved_is_missed_at_once_and_found_at_its_new_place(
    fasta: Path, model: Path, job_dir: Path, tmp_path: Path
) -> None:
    moved = model.rename(tmp_path / "moved")
    for command in (["resume", job_dir, *ONE], embed(fasta, model, tmp_path / "out.npy")):
        said = holdfast(*command, expect=2).stderr
        assert said.count("\n") == 1
        assert f"{model}: the model of this job is not there any more" in said
        assert "-m ITS_PLACE" in said
    assert not (job_dir / "server.json").exists(), "nothing was started"
    holdfast("resume", job_dir, "-m", moved, *ONE)
    here = np.load(tmp_path / "out.npy")
    holdfast(*embed(fasta, moved, tmp_path / "fresh.npy"))
    np.testing.assert_array_equal(here, np.load(tmp_path / "fresh.npy"))


def test_the_same_command_with_the_models_new_path_goes_on(
    fasta: Path, model: Path, job_dir: Path, tmp_path: Path
) -> None:
    moved = model.rename(tmp_path / "moved")
    assert "resumed" in holdfast(*embed(fasta, moved, tmp_path / "out.npy")).stderr
    assert np.load(tmp_path / "out.npy").shape[0] == NUM_RECORDS


def test_other_weights_are_refused_before_anything_starts(
    fasta: Path, model: Path, job_dir: Path, tmp_path: Path
) -> None:
    change_weights(model, lambda tensors: tensors.update({name: 2 * each for name, each in tensors.items()}))
    said = holdfast("resume", job_dir, *ONE, expect=2).stderr
    assert f"{model / 'model.safetensors'}: not the file of the job's model" in said
    said = holdfast(*embed(fasta, model, tmp_path / "out.npy"), expect=2).stderr
    assert "belongs to another job (model: esm2 -> esm2 (other files)" in said
    assert not (job_dir / "server.json").exists()


def test_enqueue_looks_for_the_model_of_a_job_that_is_there(
    fasta: Path, model: Path, job_dir: Path, tmp_path: Path, client: redis.Redis, server_url: str
) -> None:
    model.rename(tmp_path / "moved")
    command = embed(fasta, model, tmp_path / "out.npy")
    enqueue = ["enqueue", *command[1:6], *command[9:], "--queues", "cpu0", "--broker", server_url]
    assert "is not there any more" in holdfast(*enqueue, expect=2).stderr
    assert client.keys("*") == []


# ---- what fails before there is a shard ends the job, with its reason


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        (LOST, "CUDA error: unspecified launch failure"),
        (FULL, "does not fit into the memory: its"),
        (BROKEN, "ImportError: no such symbol: of this test"),
    ],
    ids=["lost", "full", "broken"],
)
def test_a_model_that_no_worker_can_load_ends_the_job_with_its_reason(
    how: str, reason: str, job_dir: Path, tmp_path: Path
) -> None:
    ended = holdfast("resume", job_dir, *ONE, expect=1, **ill(tmp_path, how))
    *_, last = ended.stderr.strip().splitlines()
    assert last.startswith("holdfast: job ")
    assert reason in last
    assert "times on cpu0@" in last
    assert "the same command tries them again" in last
    assert left_over(processes_of(job_dir)) == []
    if how is BROKEN:
        assert "resumed" in holdfast("resume", job_dir, *ONE).stderr


def test_a_worker_that_is_killed_before_it_has_a_shard_is_told_and_ends_the_run(
    job_dir: Path, tmp_path: Path
) -> None:
    ended = holdfast("resume", job_dir, *ONE, expect=1, **ill(tmp_path, KILLED))
    *said, last = ended.stderr.strip().splitlines()
    assert any(
        "cpu0@" in line and "cannot begin: at its start its process was killed" in line for line in said
    )
    assert last.startswith("holdfast: worker cpu0: its process was killed by signal 9 (SIGKILL)")
    assert left_over(processes_of(job_dir)) == []


def test_the_job_of_a_server_fails_with_its_reason_and_goes_on_once_that_is_gone(
    fasta: Path, model: Path, tmp_path: Path, client: redis.Redis, server_url: str
) -> None:
    broker = {"HOLDFAST_BROKER_URL": server_url, "HOLDFAST_RETRY_SECONDS": "1"}
    sound = shutil.copytree(model, tmp_path / "sound")
    enqueue = ["enqueue", fasta, "-m", model, "-o", tmp_path / "out.npy", "--queues", "cpu0,cpu1"]
    job = holdfast(*enqueue, **broker).stdout.strip()
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with workers("cpu0", "cpu1", **broker):
        wait_for(lambda: status(job, **broker)["state"] == "failed", "the job to end", seconds=90)
        assert "model.safetensors" in holdfast("status", job, **broker).stdout
        seen = status(job, **broker)
        assert seen["shards"]["failed"] == seen["shards"]["total"]
        assert [event["kind"] for event in seen["events"]].count("failed") == 1
        shutil.copytree(sound, model, dirs_exist_ok=True)
        holdfast(*enqueue, **broker)
        wait_for(lambda: status(job, **broker)["state"] == "done", "the job to be done", seconds=90)
    assert seen["sequences"]["total"] == NUM_RECORDS


def test_one_bad_worker_among_good_ones_shows_its_trouble_and_the_job_is_done(
    fasta: Path, model: Path, tmp_path: Path, client: redis.Redis, server_url: str
) -> None:
    # So long a lease that the worker which is not up yet is waited for.
    broker = {"HOLDFAST_BROKER_URL": server_url, "HOLDFAST_LEASE_SECONDS": "15"}
    enqueue = ["enqueue", fasta, "-m", model, "-o", tmp_path / "out.npy", "--queues", "cpu0,cpu1"]
    job = holdfast(*enqueue, "--shards", "6", **broker).stdout.strip()

    def trouble() -> dict[str, Any] | None:
        found = [each for each in status(job, **broker)["workers"] if each["trouble"]]
        return found[0] if found and found[0]["trouble"]["times"] >= 4 else None

    with workers("cpu1", **broker, **ill(tmp_path, BROKEN)):
        bad = wait_for(trouble, "the trouble of cpu1")
        assert bad is not None
        assert bad["queue"] == "cpu1"
        assert "no such symbol" in bad["trouble"]["text"]
        shown = holdfast("status", job, **broker).stdout
        assert "cannot begin: ImportError: no such symbol" in shown
        with workers("cpu0", **broker):
            wait_for(lambda: status(job, **broker)["state"] == "done", "the job to be done", seconds=100)
        kinds = [event["kind"] for event in status(job, **broker)["events"]]
    assert "trouble" in kinds
    assert "failed" not in kinds
