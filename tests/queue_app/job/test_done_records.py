"""What counts as done, and that only whoever computes it again removes the record of a damaged result."""

from pathlib import Path

import pytest

from queue_app.errors import Damage, UsageError
from queue_app.host.durable_files import DigestedFile, file_digest
from queue_app.job.directory import JOB_SCHEMA, JobDir
from queue_app.job.done_records import finished_shards, published_result, read_done, require_published
from queue_app.job.spec import Job
from queue_app.outputs.clean import clean
from tests.support.jobs_and_inputs import make_job, publish


@pytest.fixture
def job_dir(tmp_path: Path) -> JobDir:
    return JobDir(tmp_path / "job")


@pytest.fixture
def job(job_dir: JobDir) -> Job:
    job = make_job(num_shards=3, records_per_shard=2)
    publish(job, job_dir)
    return job


def damage(job_dir: JobDir, index: int) -> None:
    record = read_done(job_dir, index)
    assert record is not None
    with (job_dir.results / record.file).open("r+b") as file:
        file.write(b"\0")


def test_a_result_is_the_published_one_as_long_as_it_has_its_digest(job: Job, job_dir: JobDir) -> None:
    record = read_done(job_dir, 1)
    assert record is not None
    assert published_result(job_dir, record) == job_dir.results / record.file
    damage(job_dir, 1)
    assert published_result(job_dir, record) is None
    with pytest.raises(Damage, match=r"shard 1: .* is missing or damaged; holdfast resume .* again"):
        require_published(job_dir, 1, record)
    (job_dir.results / record.file).unlink()
    assert published_result(job_dir, record) is None


def test_whoever_only_reads_removes_nothing(job: Job, job_dir: JobDir) -> None:
    damage(job_dir, 1)
    assert set(finished_shards(job, job_dir)) == {0, 2}
    job_dir.write(job)
    with pytest.raises(UsageError, match="1 shards are not done"):
        clean(job_dir)
    assert job_dir.done(1).exists()


def test_whoever_has_it_computed_again_removes_the_record_first(job: Job, job_dir: JobDir) -> None:
    damage(job_dir, 1)
    assert set(finished_shards(job, job_dir, remove_damaged=True)) == {0, 2}
    assert [job_dir.done(index).exists() for index in range(3)] == [True, False, True]


def test_a_file_that_is_digested_while_it_is_written_has_the_digest_that_is_read_back(tmp_path: Path) -> None:
    with DigestedFile(tmp_path / "a") as file:
        for size in (0, 1, 8_191, 3 << 20):
            file.write(memoryview(bytes(range(256)) * (size // 256 + 1))[:size])
    assert file.hexdigest() == file_digest(tmp_path / "a")


def test_a_job_that_cannot_be_read_is_none(job: Job, job_dir: JobDir) -> None:
    job_dir.job_json.unlink(missing_ok=True)
    assert job_dir.load_or_none() is None
    job_dir.write(job)
    assert job_dir.load_or_none() == job
    job_dir.job_json.write_text(
        job_dir.job_json.read_text().replace(f'"schema_version": {JOB_SCHEMA}', '"schema_version": 1')
    )
    assert job_dir.load_or_none() is None
    job_dir.job_json.write_text("{")
    assert job_dir.load_or_none() is None
