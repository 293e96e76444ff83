"""The promises of shards.table: one shard is one read, and no damaged row is ever computed with."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_app.errors import Damage
from queue_app.job.directory import JobDir
from queue_app.job.shard_table import COLUMNS, ROW_BYTES, Shard, ShardTable
from queue_app.job.spec import Job
from queue_app.outputs.verify import verify_job
from tests.support.jobs_and_inputs import make_job

NUMBERS = st.integers(0, 2**62)


def load(job: Job, directory: Path) -> Job:
    """As the next process finds it."""
    JobDir(directory).write(job)
    return JobDir(directory).load()


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def start_of(path: Path, index: int, num_shards: int) -> int:
    return path.stat().st_size - (num_shards - index) * ROW_BYTES


@given(
    st.lists(
        st.builds(
            Shard, job_id=st.just("job"), index=st.just(0), num_records=NUMBERS, cost=NUMBERS,
            first_ordinal=NUMBERS, digest=st.binary(min_size=16, max_size=16).map(bytes.hex),
            num_twins=NUMBERS, reused=st.booleans(),
        ),
        max_size=5,
    )
)  # fmt: skip
def test_every_shard_comes_back_as_it_was(rows: list[Shard]) -> None:
    shards = [replace(shard, index=index) for index, shard in enumerate(rows)]
    table = ShardTable.of("job", shards)
    assert [*table] == shards == [table[index] for index in range(len(table))]
    assert table.columns["cost"].tolist() == [shard.cost for shard in shards]
    assert table.num_rows.tolist() == [shard.num_rows for shard in shards]
    assert table.costs_to_compute.tolist() == [shard.cost for shard in shards if not shard.reused]


def test_the_columns_are_the_rows_of_the_file() -> None:
    assert COLUMNS.itemsize == ROW_BYTES == 64


def test_shards_are_taken_by_index_and_by_range_as_of_a_list(tmp_path: Path) -> None:
    made = make_job(num_shards=7, records_per_shard=3)
    shards, there = load(made, tmp_path).shards, [*made.shards]
    assert len(shards) == 7
    assert (shards[0], shards[-1]) == (there[0], there[-1])
    assert [*shards[2:4]] == there[2:4]
    assert [*shards[::-2]] == there[::-2]
    assert [*shards[5:5]] == []
    for outside in (7, -8):
        with pytest.raises(IndexError):
            shards[outside]


def test_one_shard_is_one_read_of_one_row_however_many_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = load(make_job(num_shards=5_000, records_per_shard=1), tmp_path).shards
    sizes = []
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda file, size, start: sizes.append(size) or pread(file, size, start))
    assert (shards[4_321].index, shards[4_321].first_ordinal) == (4_321, 4_321)
    assert sizes == [ROW_BYTES] * 2
    sizes.clear()
    assert sum(shard.num_records for shard in shards) == 5_000
    assert max(sizes) < 5_000 * ROW_BYTES / 4, "the whole table at once"


def test_job_json_does_not_grow_with_the_shards(tmp_path: Path) -> None:
    sizes = []
    for num_shards in (10, 9_990):
        directory = JobDir(tmp_path / str(num_shards))
        directory.path.mkdir()
        directory.write(make_job(num_shards=num_shards, records_per_shard=1))
        sizes.append(directory.job_json.stat().st_size)
    assert sizes[1] - sizes[0] <= 2 * len("90")


@pytest.mark.parametrize("place", range(0, ROW_BYTES, 7))
def test_a_damaged_row_is_refused_and_the_others_are_read(tmp_path: Path, place: int) -> None:
    made = make_job(num_shards=3, records_per_shard=2)
    shards = load(made, tmp_path).shards
    flip(tmp_path / "shards.table", start_of(tmp_path / "shards.table", 1, 3) + place)
    assert shards[0] == made.shards[0]
    assert shards[2] == made.shards[2]
    with pytest.raises(Damage, match=r"shards\.table: the row of shard 1 is damaged.*embed again"):
        shards[1]
    with pytest.raises(Damage, match="shard 1"):
        list(shards)
    with pytest.raises(Damage, match="not the shards that were submitted"):
        shards.content()


def test_rows_that_changed_places_are_refused(tmp_path: Path) -> None:
    shards = load(make_job(num_shards=2, records_per_shard=2), tmp_path).shards
    path = tmp_path / "shards.table"
    content = path.read_bytes()
    path.write_bytes(content[: -2 * ROW_BYTES] + content[-ROW_BYTES:] + content[-2 * ROW_BYTES : -ROW_BYTES])
    for index in (0, 1):
        with pytest.raises(Damage, match=f"row of shard {index}"):
            shards[index]


def test_the_table_of_a_job_that_took_this_ones_place_is_refused(tmp_path: Path) -> None:
    shards = load(make_job(num_shards=2, records_per_shard=2), tmp_path).shards
    JobDir(tmp_path).write(make_job(num_shards=2, records_per_shard=9, job_id="0123456789ab-deadbeef"))
    with pytest.raises(Damage, match="or of another job"):
        shards[0]


@pytest.mark.parametrize("what", ["missing", "cut off"])
def test_a_table_that_is_gone_or_cut_off_is_damage(tmp_path: Path, what: str) -> None:
    shards = load(make_job(num_shards=3, records_per_shard=2), tmp_path).shards
    path = tmp_path / "shards.table"
    if what == "missing":
        path.unlink()
    else:
        os.truncate(path, path.stat().st_size - 1)
    for read in (lambda: shards[2], shards.content):
        with pytest.raises(Damage, match=rf"shards\.table: {what}"):
            read()


def test_a_damaged_header_is_seen_where_the_whole_is_read(tmp_path: Path) -> None:
    shards = load(make_job(num_shards=3, records_per_shard=2), tmp_path).shards
    flip(tmp_path / "shards.table", 0)
    for read in (shards.content, lambda: verify_job(JobDir(tmp_path))):
        with pytest.raises(Damage, match="not the shards"):
            read()


def test_sums_over_columns_are_those_over_shards(tmp_path: Path) -> None:
    shards = load(make_job(num_shards=50, records_per_shard=3), tmp_path).shards
    assert shards.columns["num_records"].dtype == np.int64
    assert int(shards.columns["cost"].sum()) == sum(shard.cost for shard in shards)
