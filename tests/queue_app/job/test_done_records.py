"""What counts as done: created once, reopened only as it was seen, and never by whoever only reads."""

import errno
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from checkpoint.errors import StaleToken
from checkpoint.records import DoneRecord
from queue_app.errors import Damage, UsageError
from queue_app.host import durable_files
from queue_app.host.durable_files import DigestedFile, file_digest
from queue_app.job.directory import JOB_SCHEMA, JobDir
from queue_app.job.done_records import (
    Generation,
    create,
    current_generation,
    finished_shards,
    published_result,
    read_done,
    reopen,
    require_published,
)
from queue_app.job.shard_table import Shard
from queue_app.job.spec import Job
from queue_app.outputs.clean import clean
from tests.support.jobs_and_inputs import make_job, publish

CREATORS = 8


@pytest.fixture
def job_dir(tmp_path: Path) -> JobDir:
    return JobDir(tmp_path / "job")


@pytest.fixture
def job(job_dir: JobDir) -> Job:
    job = make_job(num_shards=3, records_per_shard=2)
    publish(job, job_dir)
    return job


@pytest.fixture
def shard(job_dir: JobDir) -> Shard:
    """One of which nothing is published."""
    job_dir.dones.mkdir(parents=True)
    return make_job(num_shards=3, records_per_shard=2).shards[1]


@pytest.fixture(params=["hard links", "no hard links"])
def any_file_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "no hard links":
        monkeypatch.setattr(os, "link", failing(errno.EPERM))


def failing(number: int) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def record_of(shard: Shard, token: int, generation: int = 0) -> DoneRecord:
    file = f"{shard.index:05d}-{token}.parquet"
    count = shard.num_records
    return DoneRecord(file, "ab" * 16, count, count, job=shard.job_id, generation=generation)


def damage(job: Job, job_dir: JobDir, index: int) -> None:
    record = read_done(job_dir, job.shards[index])
    assert record is not None
    with (job_dir.results / record.file).open("r+b") as file:
        file.write(b"\0")


# ---- created once


@pytest.mark.usefixtures("any_file_system")
def test_the_first_to_publish_decides_and_all_others_adopt_his_record(job_dir: JobDir, shard: Shard) -> None:
    assert read_done(job_dir, shard) is None
    first = record_of(shard, token=2)
    assert create(job_dir, shard, first) == first
    for token in (1, 3):
        assert create(job_dir, shard, record_of(shard, token)) == first
    assert create(job_dir, shard, first) == first, "as a lost answer would have it asked again"
    assert read_done(job_dir, shard) == first
    assert [path.name for path in job_dir.dones.iterdir()] == ["00001.json"]


def create_one(job_dir: JobDir, shard: Shard, token: int) -> DoneRecord:
    return create(job_dir, shard, record_of(shard, token))


def test_of_many_processes_that_publish_at_once_all_hear_of_the_same_record(
    job_dir: JobDir, shard: Shard
) -> None:
    shards = [replace(shard, index=index) for index in range(20)]
    with ProcessPoolExecutor(CREATORS, multiprocessing.get_context("spawn")) as pool:
        asked = {
            each: [pool.submit(create_one, job_dir, each, token) for token in range(1, CREATORS + 1)]
            for each in shards
        }
        heard = {each: {future.result() for future in futures} for each, futures in asked.items()}
    assert heard == {each: {read_done(job_dir, each)} for each in shards}


def test_whatever_else_is_wrong_with_the_directory_is_said(
    job_dir: JobDir, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No hard links is one thing; no permission, or another host's mistake, is no reason for another way."""
    monkeypatch.setattr(os, "link", failing(errno.EACCES))
    with pytest.raises(PermissionError):
        create(job_dir, shard, record_of(shard, 1))
    assert list(job_dir.dones.iterdir()) == []


# ---- reopened only as it was seen


@pytest.mark.usefixtures("any_file_system")
def test_reopening_takes_away_what_was_seen_and_no_record_that_came_since(
    job_dir: JobDir, shard: Shard
) -> None:
    create(job_dir, shard, record_of(shard, 1))
    seen = current_generation(job_dir, shard)
    reopen(job_dir, shard, seen)
    assert current_generation(job_dir, shard) == Generation(1, None, is_taken=False)
    newer = create(job_dir, shard, record_of(shard, 2, generation=1))
    reopen(job_dir, shard, seen)  # by somebody who looked when the first one did
    assert read_done(job_dir, shard) == newer


@pytest.mark.usefixtures("any_file_system")
def test_nothing_can_be_published_in_a_generation_that_is_over(job_dir: JobDir, shard: Shard) -> None:
    create(job_dir, shard, record_of(shard, 1))
    reopen(job_dir, shard, current_generation(job_dir, shard))
    with pytest.raises(StaleToken, match="shard=1: generation 0 is over"):
        create(job_dir, shard, record_of(shard, 9))
    assert read_done(job_dir, shard) is None
    newer = create(job_dir, shard, record_of(shard, 2, generation=1))
    assert create(job_dir, shard, record_of(shard, 9)) == newer


def test_what_nobody_has_published_cannot_be_reopened(job_dir: JobDir, shard: Shard) -> None:
    with pytest.raises(ValueError, match="still open"):
        reopen(job_dir, shard, current_generation(job_dir, shard))


@pytest.mark.parametrize("what", ["cut off", "of a replaced job", "of another generation"])
def test_a_record_that_cannot_be_believed_counts_for_nothing_and_its_shard_can_be_reopened(
    job_dir: JobDir, shard: Shard, what: str
) -> None:
    """A zombie of a job that --overwrite has replaced finds the same paths."""
    changed = {"cut off": record_of(shard, 1), "of a replaced job": replace(record_of(shard, 1), job="old")}
    encoded = changed.get(what, record_of(shard, 1, generation=3)).encode()
    job_dir.done(1).write_bytes(encoded[:-1] if what == "cut off" else encoded)
    seen = current_generation(job_dir, shard)
    assert seen == Generation(0, None, is_taken=True)
    with pytest.raises(StaleToken, match="unreadable"):
        create(job_dir, shard, record_of(shard, 2))
    reopen(job_dir, shard, seen)
    assert create(job_dir, shard, record_of(shard, 2, 1)) == record_of(shard, 2, 1)


def test_without_hard_links_a_record_that_was_reopened_while_it_was_written_counts_for_nothing(
    job_dir: JobDir, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_synced = durable_files._write_synced

    def read_too_early(path: Path, data: bytes, mode: int | None) -> None:
        write_synced(path, data[:10] if path == job_dir.done(1) else data, mode)
        if path == job_dir.done(1):
            reopen(job_dir, shard, current_generation(job_dir, shard))
            path.write_bytes(data)

    monkeypatch.setattr(os, "link", failing(errno.ENOTSUP))
    monkeypatch.setattr(durable_files, "_write_synced", read_too_early)
    with pytest.raises(StaleToken, match="is over"):
        create(job_dir, shard, record_of(shard, 1))
    assert current_generation(job_dir, shard) == Generation(1, None, is_taken=False)


# ---- the results that they name


def test_a_result_is_the_published_one_as_long_as_it_has_its_digest(job: Job, job_dir: JobDir) -> None:
    record = read_done(job_dir, job.shards[1])
    assert record is not None
    assert published_result(job_dir, record) == job_dir.results / record.file
    damage(job, job_dir, 1)
    assert published_result(job_dir, record) is None
    with pytest.raises(Damage, match=r"shard 1: .* is missing or damaged; holdfast resume .* again"):
        require_published(job_dir, 1, record)
    (job_dir.results / record.file).unlink()
    assert published_result(job_dir, record) is None


def test_whoever_only_reads_removes_nothing(job: Job, job_dir: JobDir) -> None:
    damage(job, job_dir, 1)
    before = read_done(job_dir, job.shards[1])
    assert set(finished_shards(job, job_dir)) == {0, 2}
    job_dir.write(job)
    with pytest.raises(UsageError, match="1 shards are not done"):
        clean(job_dir)
    assert before is not None
    assert read_done(job_dir, job.shards[1]) == before


def test_whoever_has_it_computed_again_removes_the_record_first(job: Job, job_dir: JobDir) -> None:
    damage(job, job_dir, 1)
    assert set(finished_shards(job, job_dir, remove_damaged=True)) == {0, 2}
    generations = [current_generation(job_dir, shard) for shard in job.shards]
    assert [each.number for each in generations] == [0, 1, 0]
    assert [each.record is not None for each in generations] == [True, False, True]


def test_a_record_that_cannot_be_read_is_not_done_and_is_computed_again(job: Job, job_dir: JobDir) -> None:
    job_dir.done(1).write_bytes(b"{")
    assert set(finished_shards(job, job_dir)) == {0, 2}
    assert current_generation(job_dir, job.shards[1]).is_taken
    finished_shards(job, job_dir, remove_damaged=True)
    assert current_generation(job_dir, job.shards[1]) == Generation(1, None, is_taken=False)


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
        job_dir.job_json.read_text().replace(f'"schema_version": {JOB_SCHEMA}', '"schema_version": 3')
    )
    assert job_dir.load_or_none() is None
    job_dir.job_json.write_text("{")
    assert job_dir.load_or_none() is None
