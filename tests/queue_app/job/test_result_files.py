"""The published result of a shard."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from queue_app.errors import Damage
from queue_app.host.durable_files import file_digest
from queue_app.job.result_files import as_matrix, embedding_columns, iter_result, result_rows, write_result
from tests.support.jobs_and_inputs import publish_vectors

ROWS_OF_A_MEGABYTE = 1024


def written(path: Path, dtype: type = np.float32) -> tuple[list[str], np.ndarray]:
    vectors = np.random.default_rng(0).standard_normal((10, 4)).astype(dtype)
    digest = publish_vectors(path, vectors, ordinals=np.arange(5, 15, dtype=np.uint64))
    assert digest == file_digest(path)
    return [f"p{number}" for number in range(5, 15)], vectors


def batch_of(num_rows: int, first: int = 0) -> pa.RecordBatch:
    """Rows of one vector of 4 numbers each."""
    ordinals = np.arange(first, first + num_rows, dtype=np.uint64)
    vectors = np.full((num_rows, 4), first, np.float32)
    return result_rows([f"p{ordinal}" for ordinal in ordinals], ordinals, embedding_columns(vectors))


def wide_rows(first: int) -> pa.RecordBatch:
    """A megabyte of vectors."""
    ordinals = np.arange(first, first + ROWS_OF_A_MEGABYTE, dtype=np.uint64)
    vectors = np.full((ROWS_OF_A_MEGABYTE, 256), first, np.float32)
    return result_rows([f"p{ordinal}" for ordinal in ordinals], ordinals, embedding_columns(vectors))


def broken_off() -> Iterator[pa.RecordBatch]:
    yield batch_of(1)
    raise ValueError("broken off")


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_what_is_published_is_read_back_bit_by_bit(tmp_path: Path, dtype: type) -> None:
    ids, vectors = written(tmp_path / "a.parquet", dtype)
    table = pq.read_table(tmp_path / "a.parquet")
    assert table["id"].to_pylist() == ids
    assert table["ordinal"].to_pylist() == list(range(5, 15))
    assert as_matrix(table["embedding"]).dtype == dtype
    np.testing.assert_array_equal(as_matrix(table["embedding"]), vectors)


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    written(tmp_path / "a.parquet")
    written(tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


@pytest.mark.parametrize("num_rows", [0, 1, 50_000])
def test_what_is_hashed_while_it_is_written_is_the_file(tmp_path: Path, num_rows: int) -> None:
    rows = batch_of(num_rows)
    digest = write_result(tmp_path / "a.parquet", rows.schema, [rows])
    assert digest == file_digest(tmp_path / "a.parquet")


def test_a_shard_without_good_records_has_an_empty_result(tmp_path: Path) -> None:
    rows = batch_of(0)
    write_result(tmp_path / "a.parquet", rows.schema, [])
    assert pq.read_table(tmp_path / "a.parquet").num_rows == 0
    assert sum(batch.num_rows for batch in iter_result(tmp_path / "a.parquet")) == 0


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="broken off"):
        write_result(tmp_path / "a.parquet", batch_of(1).schema, broken_off())
    (tmp_path / "b.parquet").mkdir()
    with pytest.raises(OSError):
        written(tmp_path / "b.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["b.parquet"]


def test_a_batch_is_written_before_the_next_is_asked_for(tmp_path: Path) -> None:
    def one_at_a_time() -> Iterator[pa.RecordBatch]:
        for number in range(5):
            yield wide_rows(number * ROWS_OF_A_MEGABYTE)
            (temporary,) = tmp_path.iterdir()
            written_bytes.append(temporary.stat().st_size)

    written_bytes: list[int] = []
    write_result(tmp_path / "a.parquet", wide_rows(0).schema, one_at_a_time())
    assert [num_bytes >> 20 for num_bytes in written_bytes] == [1, 2, 3, 4, 5]


def test_a_large_row_group_is_read_a_portion_at_a_time(tmp_path: Path) -> None:
    rows = pa.Table.from_batches([wide_rows(first * ROWS_OF_A_MEGABYTE) for first in range(48)])
    pq.write_table(rows, tmp_path / "a.parquet", compression="none", use_dictionary=False)
    assert pq.read_metadata(tmp_path / "a.parquet").num_row_groups == 1
    del rows
    before, held, num_rows = pa.total_allocated_bytes(), 0, 0
    for batch in iter_result(tmp_path / "a.parquet"):
        num_rows += batch.num_rows
        held = max(held, pa.total_allocated_bytes() - before)
    assert num_rows == 48 * ROWS_OF_A_MEGABYTE
    assert held < 24 << 20


def test_a_file_that_is_no_result_is_damage(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(Damage, match=r"a\.parquet"):
        list(iter_result(tmp_path / "a.parquet"))
