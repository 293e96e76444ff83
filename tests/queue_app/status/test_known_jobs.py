"""Which jobs are known to one who names none."""

import json
import os
from pathlib import Path

import pytest

from queue_app.job.directory import JobDir
from queue_app.status.known_jobs import REMEMBERED_MOST, known_jobs, remember_job
from tests.support.command_runs import holdfast
from tests.support.jobs_and_inputs import make_job, publish, write_fasta

CPU = ["-m", "mock:8", "--device", "cpu", "--workers", "1", "--quiet"]


def job_in(folder: Path, name: str, number: int = 0) -> JobDir:
    """A job that is done, the newer the higher its number."""
    job_dir = JobDir(folder / f"{name}.holdfast")
    publish(make_job(num_shards=1, records_per_shard=4, job_id=f"0123456789ab-{number:08x}"), job_dir)
    os.utime(job_dir.job_json, (number, number))
    return job_dir


def test_a_folders_jobs_come_first_the_newest_on_top_and_each_once(tmp_path: Path) -> None:
    elsewhere = job_in(tmp_path / "elsewhere", "b.npy", 9)
    here = [job_in(tmp_path, f"{name}.npy", number) for number, name in enumerate("cab", start=1)]
    (tmp_path / "empty.holdfast").mkdir()
    for job_dir in (here[0], elsewhere):
        remember_job(job_dir)
    assert known_jobs(tmp_path) == [*reversed(here), elsewhere]


def test_the_last_ones_are_remembered_each_once_and_those_that_are_gone_forgotten(
    tmp_path: Path, state_home: Path
) -> None:
    made = [job_in(tmp_path / str(number), "a.npy", number) for number in range(REMEMBERED_MOST + 3)]
    for job_dir in (*made, made[4]):
        remember_job(job_dir)
    nowhere = tmp_path / "nowhere"
    nowhere.mkdir()
    kept = [made[4], *(each for each in reversed(made) if each != made[4])][:REMEMBERED_MOST]
    assert known_jobs(nowhere) == kept
    made[-1].job_json.unlink()
    remember_job(made[-2])
    assert str(made[-1].path) not in json.loads((state_home / "jobs.json").read_text())
    (state_home / "jobs.json").write_text("{")
    assert known_jobs(nowhere) == []


def test_where_nothing_can_be_written_a_job_goes_on(
    tmp_path: Path, state_home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state_home.parent.mkdir(parents=True)
    state_home.write_text("a file")
    remember_job(job_in(tmp_path, "a.npy"))
    assert "set HOLDFAST_STATE" in caplog.text
    assert known_jobs(tmp_path / "none") == []


def test_status_alone_lists_jobs_and_outputs_without_a_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, other = tmp_path / "work", tmp_path / "other"
    work.mkdir(), other.mkdir()
    for home in (other, work):
        holdfast("embed", write_fasta(home / "a.fasta", 5), "-o", home / "out.npy", *CPU)
    (other / "out.npy.holdfast" / "done" / "00000.json").unlink()
    monkeypatch.chdir(work)
    lines = holdfast("status").stdout.splitlines()
    assert [line for line in lines if not line.startswith((" ", "job"))] == [
        str(work / "out.npy"), str(other / "out.npy"),
    ]  # fmt: skip
    assert "done  5/5 sequences (100%)" in lines[1]
    told = json.loads(holdfast("status", "--json").stdout)
    assert [(each["output"], each["state"]) for each in told] == [
        (str(work / "out.npy"), "done"), (str(other / "out.npy"), "stopped"),
    ]  # fmt: skip
    assert told[1]["directory"] == str(other / "out.npy.holdfast")
    monkeypatch.chdir(tmp_path)
    none = {"HOLDFAST_STATE": str(tmp_path / "none")}
    assert holdfast("status", **none).stdout.startswith("no jobs: none in this directory")
    assert json.loads(holdfast("status", "--json", **none).stdout) == []
