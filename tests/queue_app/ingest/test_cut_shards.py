"""Cutting the record stream into shards."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_app.choices import DeviceClass
from queue_app.errors import Damage, InputError
from queue_app.ingest.cut_shards import (
    RECORDS_PER_SHARD,
    cut_rows,
    default_num_shards,
    shard_cost_most,
    shard_records_most,
    write_shards,
)
from queue_app.ingest.record_spool import spooled
from queue_app.job.directory import JobDir
from queue_app.job.shard_files import Record, read_shard
from queue_app.job.shard_table import Shard
from queue_app.job.spec import RECORD_COST


@pytest.fixture
def job_dir(tmp_path: Path) -> JobDir:
    made = JobDir(tmp_path)
    made.shards.mkdir()
    return made


def records(lengths: list[int]) -> list[Record]:
    return [Record(ordinal, f"p{ordinal}", "M" * length) for ordinal, length in enumerate(lengths)]


def write(
    job_dir: JobDir, lengths: list[int], num_shards: int | None = None, cost_most: int = 4_000_000
) -> tuple[Shard, ...]:
    return write_all(records(lengths), job_dir, num_shards, cost_most)


def write_all(
    given: Iterable[Record], job_dir: JobDir, num_shards: int | None, cost_most: int
) -> tuple[Shard, ...]:
    with spooled(given, job_dir.path / ".spool.arrow") as spool:
        rows = spool.census.rows(spool.census.firsts(dedup=False), None)
        return write_shards(spool, rows, job_dir, "job", num_shards=num_shards, cost_most=cost_most)


def test_concatenated_shards_are_the_input(job_dir: JobDir) -> None:
    lengths = [number % 90 + 1 for number in range(1000)]
    shards = write(job_dir, lengths)
    contents = [read_shard(job_dir.shard(shard.index), shard) for shard in shards]
    assert [name for content in contents for name in content.ids] == [f"p{n}" for n in range(1000)]
    assert [len(s) for content in contents for s in content.sequences] == lengths
    assert [shard.first_ordinal for shard in shards] == list(
        np.cumsum([0, *(shard.num_records for shard in shards[:-1])])
    )


def test_there_are_at_least_32_shards_where_there_are_records_enough(job_dir: JobDir) -> None:
    assert len(write(job_dir, [50] * 1000)) == 32


def test_few_records_make_few_shards(job_dir: JobDir) -> None:
    assert len(write(job_dir, [50])) == 1


def test_no_shard_costs_more_than_it_may(job_dir: JobDir) -> None:
    shards = write(job_dir, [92] * 20_000, cost_most=10_000)
    assert len(shards) == 250
    assert max(shard.cost for shard in shards) <= 10_000


def test_a_shard_of_short_records_has_no_more_of_them_than_a_worker_should_hold() -> None:
    costs = np.full(1_000_000, 9, np.int64)
    assert len(costs) / default_num_shards(costs, cost_most=10**9) <= RECORDS_PER_SHARD[1]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_large_model_has_small_shards_and_a_device_large_ones(device: DeviceClass) -> None:
    sizes = [shard_cost_most(device, parameters) for parameters in (0, 8 * 10**6, 10**9, 15 * 10**9)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 10 * sizes[-1]
    assert shard_cost_most("cuda", 10**9) > shard_cost_most("cpu", 10**9)


def test_shards_cost_about_the_same_until_they_taper(job_dir: JobDir) -> None:
    rng = np.random.default_rng(1)
    lengths = rng.lognormal(5.6, 0.7, 4000).astype(int) + 1
    costs = [shard.cost for shard in write(job_dir, lengths.tolist())][:20]
    assert max(costs) - min(costs) <= lengths.max() + RECORD_COST


def test_shards_of_reused_vectors_are_few_and_do_not_taper(job_dir: JobDir) -> None:
    with spooled(records([92] * 1_000), job_dir.path / ".spool.arrow") as spool:
        rows = spool.census.rows(spool.census.firsts(dedup=False), None)
        cut = [len(run) for run in cut_rows(rows, num_shards=None, cost_most=25_000, reused=True)]
    assert cut == [250] * 4


def test_every_shard_file_is_durable_before_anything_is_said_of_it(
    job_dir: JobDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a power loss: what was not synced is not there."""
    synced = set()
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: synced.add(os.fstat(file).st_ino) or fsync(file))
    shards = write(job_dir, [30] * 400, 100)
    there = {job_dir.shard(shard.index).stat().st_ino for shard in shards}
    assert there | {job_dir.shards.stat().st_ino} <= synced
    assert len(there) == 100


def test_a_shard_that_cannot_be_written_is_told(job_dir: JobDir) -> None:
    job_dir.shard(7).mkdir()
    with pytest.raises(FileExistsError, match=r"00007\.arrow"):
        write(job_dir, [30] * 100, 10)


@given(
    lengths=st.lists(st.integers(0, 2000), min_size=1, max_size=60),
    num_shards=st.integers(1, 80),
)
def test_every_cut_keeps_every_record_and_no_shard_is_empty(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], num_shards: int
) -> None:
    job_dir = JobDir(tmp_path_factory.mktemp("job"))
    job_dir.shards.mkdir()
    shards = write(job_dir, lengths, num_shards)
    assert len(shards) == min(num_shards, len(lengths))
    assert sum(shard.num_records for shard in shards) == len(lengths)
    assert all(shard.num_records for shard in shards)
    assert sum(shard.cost for shard in shards) == sum(lengths) + RECORD_COST * len(lengths)


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    digests = []
    for name in ("a", "b"):
        job_dir = JobDir(tmp_path / name)
        job_dir.shards.mkdir(parents=True)
        digests.append([shard.digest for shard in write(job_dir, [30] * 100, 3)])
    assert digests[0] == digests[1]


def test_a_bad_record_keeps_its_row_and_its_problem(job_dir: JobDir) -> None:
    given = [Record(0, "a", "MK"), Record(1, "b", "", "empty sequence"), Record(2, "ü", "MV")]
    (shard,) = write_all(given, job_dir, num_shards=1, cost_most=9)
    content = read_shard(job_dir.shard(0), shard)
    assert content.ids == ["a", "b", "ü"]
    assert content.problems == [None, "empty sequence", None]


def test_no_records_is_an_error_and_leaves_no_file(job_dir: JobDir) -> None:
    with pytest.raises(InputError):
        write(job_dir, [])
    assert [path.name for path in job_dir.path.rglob("*")] == ["shards"]


def test_an_error_of_the_input_leaves_no_spool(job_dir: JobDir) -> None:
    def failing() -> Iterator[Record]:
        yield from records([5] * 10)
        raise InputError("a.fasta: line 11")

    with pytest.raises(InputError, match="line 11"):
        write_all(failing(), job_dir, num_shards=1, cost_most=9)
    assert [path.name for path in job_dir.path.rglob("*")] == ["shards"]


def test_a_shard_file_that_is_not_the_submitted_one_is_damage(job_dir: JobDir) -> None:
    shard, *_ = write(job_dir, [30] * 100, 2)
    path = job_dir.shard(shard.index)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(Damage, match=r"00000\.arrow"):
        read_shard(path, shard)


def test_a_shard_for_a_gpu_has_more_records_as_its_device_is_through_with_them_sooner() -> None:
    costs = np.full(4_000_000, 52)
    num_shards = {
        device: default_num_shards(costs, shard_cost_most(device, 22 * 10**6), shard_records_most(device))
        for device in ("cpu", "cuda")
    }
    assert num_shards["cuda"] * 65_536 >= len(costs)
    assert 32 <= num_shards["cuda"] <= 80 < num_shards["cpu"]
