"""Which job directories are taken for jobs that the server has forgotten."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import redis

from queue_app.coordination.embedded_server import ServerAddress
from queue_app.coordination.fleet import Fleet, take_job
from queue_app.host.fleet_memory import FleetMemory
from queue_app.job.directory import JobDir
from queue_app.job.spec import Job
from queue_app.worker.forgotten_jobs import ForgottenJobs
from tests.support.jobs_and_inputs import make_job, mark_exported

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


@pytest.fixture
def fleet(client: redis.Redis) -> Fleet:
    return Fleet(client, FleetMemory(None))


@pytest.fixture
def jobs(fleet: Fleet, job_dir: JobDir, tmp_path: Path) -> ForgottenJobs:
    """What is looked for in a root with one job, which is the fleet's."""
    take_job(fleet.client, job_dir)
    return ForgottenJobs([tmp_path], URL, fleet)


def forgotten(jobs: ForgottenJobs, *known: str) -> list[str]:
    return [job.job_id for job, _ in jobs.find(known)]


def test_a_root_may_be_a_job_directory_or_hold_some(
    job: Job, job_dir: JobDir, jobs: ForgottenJobs, fleet: Fleet, tmp_path: Path
) -> None:
    assert forgotten(jobs) == [job.job_id]
    assert forgotten(ForgottenJobs([job_dir.path], URL, fleet)) == [job.job_id]
    assert forgotten(ForgottenJobs([tmp_path / "not_there"], URL, fleet)) == []


def test_what_is_found_has_all_its_shards(job: Job, jobs: ForgottenJobs) -> None:
    for _ in range(2):
        ((found, _),) = jobs.find(())
        assert found == job


def test_a_job_that_the_server_knows_is_not_forgotten(job: Job, jobs: ForgottenJobs) -> None:
    assert forgotten(jobs, job.job_id) == []


def test_what_a_producer_is_about_to_put_in_place_is_no_job_yet(
    job: Job, job_dir: JobDir, jobs: ForgottenJobs, fleet: Fleet
) -> None:
    job_dir.incoming.path.mkdir()
    job_dir.incoming.write(dataclasses.replace(job, job_id="0123456789ab-00000000"))
    shutil.copy(job_dir.fleet_json, job_dir.incoming.fleet_json)
    assert forgotten(ForgottenJobs([job_dir.path], URL, fleet)) == [job.job_id]


def test_a_held_job_is_left_alone(job_dir: JobDir, jobs: ForgottenJobs) -> None:
    job_dir.hold("paused")
    assert forgotten(jobs) == []


def test_an_exported_job_is_left_alone_and_the_output_of_an_earlier_one_hides_nothing(
    job: Job, jobs: ForgottenJobs
) -> None:
    mark_exported(Path(job.output), "an earlier one")
    assert forgotten(jobs) == [job.job_id]
    mark_exported(Path(job.output), job.job_id)
    assert forgotten(jobs) == []


def test_a_job_on_a_server_of_its_own_is_none_of_ours(
    job: Job, job_dir: JobDir, jobs: ForgottenJobs, fleet: Fleet, tmp_path: Path
) -> None:
    ServerAddress(7001, "secret-of-the-job").write(job_dir.server_json)
    assert forgotten(jobs) == []
    own = ForgottenJobs([tmp_path], ServerAddress(7001, "secret-of-the-job").url, fleet)
    assert forgotten(own) == [job.job_id]
    job_dir.fleet_json.unlink()
    assert forgotten(own) == [job.job_id], "the server may have been made anew"


def test_a_directory_that_got_a_new_job_is_read_again(job: Job, job_dir: JobDir, jobs: ForgottenJobs) -> None:
    list(jobs.find(()))
    job_dir.write(dataclasses.replace(job, job_id="ffffffffffff-00000000"))
    assert forgotten(jobs) == ["ffffffffffff-00000000"]


def test_a_damaged_job_is_passed_over(job: Job, jobs: ForgottenJobs, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "job.json").write_text("{")
    assert forgotten(jobs) == [job.job_id]


# ---- whose they are


def test_a_job_of_another_fleet_is_left_alone_and_named_once(
    job: Job, job_dir: JobDir, jobs: ForgottenJobs, caplog: pytest.LogCaptureFixture
) -> None:
    another = "0123456789abcdef"
    job_dir.fleet_json.write_text(json.dumps({"fleet": another}))
    assert forgotten(jobs) == forgotten(jobs) == []
    (line,) = caplog.messages
    assert another in line
    assert str(job_dir.path) in line


def test_a_job_of_no_fleet_is_left_alone(job_dir: JobDir, jobs: ForgottenJobs) -> None:
    job_dir.fleet_json.unlink()
    assert forgotten(jobs) == []


def test_a_job_that_somebody_enqueues_again_becomes_the_fleets(
    job: Job, job_dir: JobDir, jobs: ForgottenJobs, fleet: Fleet
) -> None:
    job_dir.fleet_json.unlink()
    assert forgotten(jobs) == []
    take_job(fleet.client, job_dir)
    assert forgotten(jobs) == [job.job_id]


def test_a_job_of_the_fleets_former_id_is_the_fleets(
    job: Job, job_dir: JobDir, jobs: ForgottenJobs, client: redis.Redis
) -> None:
    """Somebody who knew no id asked first after the server had lost its data."""
    fleet_before = job_dir.fleet()
    jobs.fleet.join()
    client.flushall()
    assert Fleet(client, FleetMemory(None)).join() != fleet_before
    assert jobs.fleet.lost_data()
    newcomer = ForgottenJobs(jobs.roots, URL, Fleet(client, FleetMemory(None)))
    assert forgotten(jobs) == forgotten(newcomer) == [job.job_id]
    take_job(client, job_dir)  # as it is announced
    assert job_dir.fleet() not in (None, fleet_before)
    assert forgotten(jobs) == [job.job_id]


# ---- where they are remembered


def test_a_remembered_job_is_found_without_any_root(
    job: Job, job_dir: JobDir, client: redis.Redis, state_home: Path
) -> None:
    take_job(client, job_dir)
    after_a_restart = ForgottenJobs([], URL, Fleet(client, FleetMemory(state_home)))
    assert forgotten(after_a_restart) == [job.job_id]


def test_one_job_in_two_directories_goes_on_in_that_which_was_worked_in(
    job: Job, job_dir: JobDir, client: redis.Redis, state_home: Path, tmp_path: Path
) -> None:
    take_job(client, job_dir)
    shutil.copytree(job_dir.path, tmp_path / "a.copy.holdfast")
    both = ForgottenJobs([tmp_path], URL, Fleet(client, FleetMemory(state_home)))
    assert [found.path for _, found in both.find(())] == [job_dir.path]


def test_a_finished_job_is_remembered_no_longer_even_while_the_server_knows_it(
    job: Job, job_dir: JobDir, client: redis.Redis, state_home: Path
) -> None:
    take_job(client, job_dir)
    fleet = Fleet(client, FleetMemory(state_home))
    jobs = ForgottenJobs([], URL, fleet)
    assert forgotten(jobs, job.job_id) == []
    assert fleet.directories() == [job_dir.path]
    mark_exported(Path(job.output), job.job_id)
    assert forgotten(jobs, job.job_id) == []
    assert fleet.directories() == []


def test_a_directory_whose_mount_is_away_stays_remembered(
    job: Job, job_dir: JobDir, client: redis.Redis, state_home: Path
) -> None:
    take_job(client, job_dir)
    jobs = ForgottenJobs([], URL, Fleet(client, FleetMemory(state_home)))
    away = job_dir.path.rename(job_dir.path.with_name("away"))
    assert forgotten(jobs) == []
    away.rename(job_dir.path)
    assert forgotten(jobs) == [job.job_id]
