"""Which job directories are taken for jobs that the server has forgotten."""

import dataclasses
import json
from pathlib import Path

import pytest

from queue_app.coordination.embedded_server import ServerAddress
from queue_app.job.directory import JobDir
from queue_app.job.output_names import meta_path
from queue_app.job.spec import Job
from queue_app.worker.forgotten_jobs import ForgottenJobs
from tests.support.jobs_and_inputs import make_job

URL = "redis://127.0.0.1:7000/0"


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return dataclasses.replace(make_job(num_shards=1, records_per_shard=4), output=str(tmp_path / "a.npy"))


@pytest.fixture
def job_dir(job: Job, tmp_path: Path) -> JobDir:
    made = JobDir(tmp_path / "a.npy.holdfast")
    made.path.mkdir()
    made.write(job)
    return made


def forgotten(root: Path, *known: str) -> list[str]:
    return [job.job_id for job, _ in ForgottenJobs([root], URL).find(known)]


def test_a_root_may_be_a_job_directory_or_hold_some(job: Job, job_dir: JobDir, tmp_path: Path) -> None:
    assert forgotten(tmp_path) == [job.job_id]
    assert forgotten(job_dir.path) == [job.job_id]
    assert forgotten(tmp_path / "not_there") == []


def test_a_job_that_the_server_knows_is_not_forgotten(job: Job, job_dir: JobDir, tmp_path: Path) -> None:
    assert forgotten(tmp_path, job.job_id) == []


def test_what_a_producer_is_about_to_put_in_place_is_no_job_yet(job: Job, job_dir: JobDir) -> None:
    job_dir.incoming.path.mkdir()
    job_dir.incoming.write(dataclasses.replace(job, job_id="0123456789ab-00000000"))
    assert forgotten(job_dir.path) == [job.job_id]


def test_a_held_job_is_left_alone(job_dir: JobDir, tmp_path: Path) -> None:
    job_dir.hold("paused")
    assert forgotten(tmp_path) == []


def test_an_exported_job_is_left_alone_and_the_output_of_an_earlier_one_hides_nothing(
    job: Job, job_dir: JobDir, tmp_path: Path
) -> None:
    meta_path(Path(job.output)).write_text(json.dumps({"job": "an earlier one"}))
    assert forgotten(tmp_path) == [job.job_id]
    meta_path(Path(job.output)).write_text(json.dumps({"job": job.job_id}))
    assert forgotten(tmp_path) == []


def test_a_job_on_a_server_of_its_own_is_none_of_ours(job: Job, job_dir: JobDir, tmp_path: Path) -> None:
    ServerAddress(7001, "secret").write(job_dir.server_json)
    assert forgotten(tmp_path) == []
    own = ServerAddress(7001, "secret").url
    assert [found.job_id for found, _ in ForgottenJobs([tmp_path], own).find(())] == [job.job_id]


def test_a_directory_that_got_a_new_job_is_read_again(job: Job, job_dir: JobDir, tmp_path: Path) -> None:
    roots = ForgottenJobs([tmp_path], URL)
    list(roots.find(()))
    job_dir.write(dataclasses.replace(job, job_id="ffffffffffff-00000000"))
    assert [found.job_id for found, _ in roots.find(())] == ["ffffffffffff-00000000"]


def test_a_damaged_job_is_passed_over(job: Job, job_dir: JobDir, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "job.json").write_text("{")
    assert forgotten(tmp_path) == [job.job_id]
