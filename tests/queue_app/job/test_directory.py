"""job.json: read once as long as it is the same file, and never taken for the one that was there before."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from queue_app.errors import JobNotFound
from queue_app.job import directory
from queue_app.job.directory import REMEMBERED_MOST, JobDir
from tests.support.jobs_and_inputs import make_job


@pytest.fixture
def job_dir(tmp_path: Path) -> JobDir:
    return write(tmp_path / "job", "0123456789ab-cafecafe")


def write(path: Path, job_id: str) -> JobDir:
    """A job that has been there for an hour."""
    path.mkdir(exist_ok=True)
    made = JobDir(path)
    made.write(make_job(num_shards=3, records_per_shard=2, job_id=job_id))
    an_hour_ago(made.job_json)
    return made


def an_hour_ago(path: Path) -> None:
    os.utime(path, (path.stat().st_mtime - 3600,) * 2)


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Whatever is parsed as a job."""
    seen: list[bytes] = []
    parse = directory._JOB.validate_json

    class Watched:
        @staticmethod
        def validate_json(content: bytes) -> object:
            seen.append(content)
            return parse(content)

        dump_json = directory._JOB.dump_json

    monkeypatch.setattr(directory, "_JOB", Watched)
    return seen


def test_the_job_of_the_shard_before_is_not_read_again(job_dir: JobDir, parsed: list[bytes]) -> None:
    jobs = [JobDir(job_dir.path).load() for _ in range(5)]
    assert len(parsed) == 1
    assert all(job is jobs[0] for job in jobs)


def test_a_job_that_takes_anothers_place_is_read(job_dir: JobDir) -> None:
    before = job_dir.load()
    write(job_dir.path, "0123456789ab-deadbeef")
    assert before.job_id == "0123456789ab-cafecafe"
    assert job_dir.load().job_id == "0123456789ab-deadbeef"
    job_dir.job_json.unlink()
    with pytest.raises(JobNotFound):
        job_dir.load()


def test_a_file_of_just_now_is_read_again_as_the_next_may_have_its_time(tmp_path: Path) -> None:
    """The same size, the same place on the disk and, as clocks tick, the same time."""
    job_dir = write(tmp_path / "job", "0123456789ab-cafecafe")
    os.utime(job_dir.job_json)
    stamp = job_dir.job_json.stat()
    assert job_dir.load().threads == 1
    content = job_dir.job_json.read_text().replace('"threads": 1', '"threads": 2')
    job_dir.job_json.write_text(content)
    os.utime(job_dir.job_json, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert job_dir.load().threads == 2


def test_only_some_jobs_are_remembered(tmp_path: Path) -> None:
    for number in range(REMEMBERED_MOST + 4):
        write(tmp_path / str(number), f"0123456789ab-{number:08x}").load()
    assert len(directory._read_before) <= REMEMBERED_MOST


def test_a_job_that_is_written_again_is_the_same(job_dir: JobDir) -> None:
    job = job_dir.load()
    job_dir.write(replace(job, threads=7))
    again = job_dir.load()
    assert (again.threads, [*again.shards]) == (7, [*job.shards])
