"""A job directory that was moved or copied writes where it lies now, and never where it was."""

import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from checkpoint.process_identity import identify
from queue_app import Job
from queue_app.host.file_lock import FileLock
from queue_app.job.output_place import forget_other_place, take_place
from tests.support.command_runs import holdfast, running, status, wait_for_progress
from tests.support.inline_job import submitted
from tests.support.jobs_and_inputs import write_fasta

CPU = ["--device", "cpu", "--workers", "1", "--quiet"]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A directory with a job that was interrupted before its output was written."""
    home = tmp_path / "old"
    home.mkdir()
    job = submitted(home / "out.npy", [write_fasta(tmp_path / "a.fasta", 20)])
    take_place(job.job_dir, home / "out.npy")
    job.compute([0])
    return home


@pytest.mark.parametrize("named", ["out.npy", "out.npy.holdfast"])
@pytest.mark.parametrize("old_folder", ["there", "gone"])
def test_a_job_that_was_moved_is_written_beside_its_directory(old: Path, named: str, old_folder: str) -> None:
    new = old.with_name("new")
    new.mkdir()
    (old / "out.npy.holdfast").rename(new / "out.npy.holdfast")
    if old_folder == "gone":
        shutil.rmtree(old)
    else:
        (old / "out.npy").write_bytes(b"somebody else's")
    holdfast("resume", new / named, *CPU)
    assert np.load(new / "out.npy").shape == (20, 8)
    if old_folder == "there":
        assert (old / "out.npy").read_bytes() == b"somebody else's"
    assert "finished and sound" in holdfast("verify", new / named).stdout
    assert Job.open(new / named).output == new / "out.npy"
    holdfast("clean", new / named)


def test_two_copies_of_a_job_write_each_its_own_output(old: Path) -> None:
    shutil.copytree(old / "out.npy.holdfast", old / "copy.npy.holdfast")
    holdfast("resume", old / "copy.npy.holdfast", *CPU)
    assert not (old / "out.npy").exists()
    holdfast("resume", old / "out.npy.holdfast", *CPU)
    assert (old / "out.npy").read_bytes() == (old / "copy.npy").read_bytes()


def test_the_output_that_is_named_is_the_one_that_is_written(old: Path, tmp_path: Path) -> None:
    holdfast("resume", old / "out.npy", "-o", tmp_path / "there.h5", *CPU)
    assert sorted(path.name for path in old.iterdir()) == ["out.npy.holdfast"]
    assert Job.open(old / "out.npy.holdfast").output == tmp_path / "there.h5"


def test_a_moved_directory_that_was_not_beside_its_output_asks_where_to(old: Path, tmp_path: Path) -> None:
    (old / "out.npy.holdfast").rename(old / "work")
    ended = holdfast("resume", old / "work", *CPU, expect=2)
    assert f"say where its output is to go: holdfast resume {old / 'work'} -o OUTPUT" in ended.stderr
    holdfast("resume", old / "work", "-o", tmp_path / "out.npy", *CPU)
    assert np.load(tmp_path / "out.npy").shape == (20, 8)


def test_the_copy_of_a_running_job_leaves_its_server_and_its_workers_alone(tmp_path: Path) -> None:
    fasta, output = write_fasta(tmp_path / "a.fasta", 4000), tmp_path / "out.npy"
    job_dir = Path(f"{output}.holdfast")
    with running("embed", fasta, "-m", "mock:8", "-o", output, *CPU, "--toks-per-batch", "100") as process:
        wait_for_progress(job_dir, 0.01, process)
        process.send_signal(signal.SIGSTOP)
        try:
            passing = shutil.ignore_patterns(".*", "lock.mdb")
            copy = shutil.copytree(job_dir, tmp_path / "copy.npy.holdfast", ignore=passing)
            started = json.loads((copy / "processes.json").read_text())
            forget_other_place(Job.open(copy).job_dir)
            assert not (copy / "processes.json").exists()
            assert not (copy / "server.json").exists()
            assert {owner.read_text() for owner in copy.glob("checkpoints/*/owner.json")} <= {""}
            holdfast("resume", copy, *CPU)
            assert [name for name, each in started.items() if identify(each["pid"]) is None] == []
        finally:
            process.send_signal(signal.SIGCONT)
        assert process.wait(120) == 0
    assert output.read_bytes() == (tmp_path / "copy.npy").read_bytes()


def test_the_status_of_an_interrupted_job_says_that_it_is_stopped_and_how_to_go_on(old: Path) -> None:
    job_dir = old / "out.npy.holdfast"
    goes_on = f"holdfast resume {job_dir} goes on"
    assert goes_on in (said := holdfast("status", job_dir).stdout)
    assert ": stopped  " in said
    found = status(old / "out.npy")
    assert (found["state"], goes_on in found["remedy"]) == ("stopped", True)
    with FileLock(job_dir / "lock"):
        found = status(job_dir)
        assert (found["state"], found["remedy"]) == ("running", None)
    (job_dir / "held").write_text("cancelled")
    found = status(job_dir)
    assert (found["state"], goes_on in found["remedy"]) == ("cancelled", True)
    holdfast("resume", job_dir, *CPU)
    found = status(job_dir)
    assert (found["state"], found["remedy"]) == ("done", None)
