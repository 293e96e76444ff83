"""What a job keeps of its records, asked for by their ordinals."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from queue_app.errors import Damage
from queue_app.host.durable_files import file_digest
from queue_app.job.directory import JobDir
from queue_app.job.kept_columns import KeptColumns, open_kept
from queue_app.job.spec import KeptFile
from tests.support.jobs_and_inputs import make_job

TABLE = pa.table(
    {"description": [f"d{number}" if number % 5 else None for number in range(1_000)], "n": range(1_000)}
)


@pytest.fixture
def kept(tmp_path: Path) -> KeptColumns:
    pq.write_table(TABLE, tmp_path / "kept.parquet", row_group_size=64)
    return KeptColumns(tmp_path / "kept.parquet")


@pytest.mark.parametrize("seed", range(5))
def test_rows_come_in_the_order_in_which_they_are_asked_for(kept: KeptColumns, seed: int) -> None:
    ordinals = np.random.default_rng(seed).integers(0, len(TABLE), 200)
    assert kept.rows(ordinals).to_pydict() == TABLE.take(ordinals).to_pydict()
    assert kept.rows(ordinals, ["n"]).to_pydict() == TABLE.select(["n"]).take(ordinals).to_pydict()
    assert kept.rows(np.sort(ordinals)).to_pydict() == TABLE.take(np.sort(ordinals)).to_pydict()


@pytest.mark.parametrize(("first", "end"), [(0, 1_000), (63, 65), (10, 10), (999, 1_000), (100, 400)])
def test_rows_side_by_side_are_those_of_the_file(kept: KeptColumns, first: int, end: int) -> None:
    found = kept.rows(np.arange(first, end))
    assert found.to_pydict() == TABLE.slice(first, end - first).to_pydict()
    assert found.schema == kept.schema


def test_all_rows_pass_by_ordinal(kept: KeptColumns) -> None:
    assert (kept.names, len(kept)) == (("description", "n"), 1_000)
    assert pa.concat_tables(kept.tables()).to_pydict() == TABLE.to_pydict()
    assert pa.concat_tables(kept.tables(["n"])).column_names == ["n"]


def test_many_threads_may_ask_at_once(kept: KeptColumns) -> None:
    def ask(seed: int) -> bool:
        ordinals = np.random.default_rng(seed).integers(0, len(TABLE), 50)
        return bool(kept.rows(ordinals)["n"].to_pylist() == ordinals.tolist())

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(ask, range(200)))


@pytest.mark.parametrize("ordinal", [-1, 1_000])
def test_a_record_that_is_not_there_is_refused(kept: KeptColumns, ordinal: int) -> None:
    with pytest.raises(IndexError, match="among 1000"):
        kept.rows(np.array([5, ordinal]))


def test_a_file_that_is_not_the_job_s_is_damage_and_a_job_may_keep_nothing(tmp_path: Path) -> None:
    job, job_dir = make_job(num_shards=1, records_per_shard=5), JobDir(tmp_path)
    assert open_kept(job, job_dir) is None
    pq.write_table(TABLE, job_dir.kept)
    job = replace(job, kept=KeptFile(file_digest(job_dir.kept), ("description", "n")))
    found = open_kept(job, job_dir)
    assert found is not None
    found.close()
    pq.write_table(TABLE.slice(1), job_dir.kept)
    with pytest.raises(Damage, match=r"kept\.parquet: not the file that was submitted"):
        open_kept(job, job_dir)
    job_dir.kept.unlink()
    with pytest.raises(Damage, match=r"kept\.parquet"):
        open_kept(job, job_dir)
