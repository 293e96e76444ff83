"""Files of a kilobyte that say gigabytes: a record's own fault is quarantined, all else is one line."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from queue_app.errors import InputError
from queue_app.ingest.readers.bounds.limits import DEFAULT
from queue_app.ingest.readers.columnar import child
from queue_app.ingest.readers.columns import Columns
from queue_app.ingest.readers.formats import FORMATS
from queue_app.ingest.readers.sources import Input, open_source
from queue_app.ingest.readers.values import Row
from queue_app.ingest.records import Dataset
from queue_app.job.shard_files import Record

ID_MOST, SEQUENCE_MOST = 4 * DEFAULT.id, 2 * DEFAULT.record
ROW_BYTES = 1_000_000
MEMORY_MOST = 160 << 20
LIBRARIES = 32 << 20
"""Bytes of code in memory, which the limit does not count."""
"""Less than a reader has, so that files may be smaller that are too large."""


@pytest.fixture(autouse=True)
def small_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "MEMORY_MOST", MEMORY_MOST)
    monkeypatch.setattr(child, "_of_thread", threading.local())


def read(path: Path) -> list[Record]:
    found = [*Dataset([Input(path, path)], alphabet="text")]
    assert peak_bytes() < child.MEMORY_MOST + LIBRARIES
    return found


def rows(path: Path) -> Iterator[Row]:
    with open_source(Input(path, path)) as source:
        yield from FORMATS["parquet"].read(source, Columns())


def peak_bytes() -> int:
    """Of the child, in its whole life."""
    status = Path(f"/proc/{child._of_thread.child.process.pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) << 10


def parquet(path: Path, table: pa.Table) -> Path:
    pq.write_table(table, path, compression="zstd")
    return path


def feathered(path: Path, table: pa.Table) -> Path:
    feather.write_feather(table, path, compression="zstd")
    return path


def test_a_string_longer_than_the_memory_is_refused_with_its_row_group(tmp_path: Path) -> None:
    """In a file of some kilobytes."""
    long = pa.array(["A" * (MEMORY_MOST + 1)], pa.large_string())
    path = parquet(tmp_path / "a.parquet", pa.table({"id": ["a"], "text": long}))
    del long
    with pytest.raises(InputError, match=r"a\.parquet: row group 1: takes more memory .*160 MiB") as refused:
        read(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("write", [parquet, feathered])
def test_ids_of_a_megabyte_are_quarantined_and_their_neighbours_are_not(
    tmp_path: Path, write: Callable[[Path, pa.Table], Path]
) -> None:
    ids = [*("B" * ROW_BYTES for _ in range(40)), "sound"]
    path = write(
        tmp_path / f"a.{write.__name__.removesuffix('ed')}", pa.table({"id": ids, "text": ["MKV"] * 41})
    )
    *long, sound = read(path)
    assert (sound.id, sound.sequence, sound.problem) == ("sound", "MKV", None)
    assert {record.id for record in long} == {""}
    assert long[6].problem == (
        f"an id of 1,000,000 bytes, more than {ID_MOST:,}, which begins with '{'B' * 40}': "
        "--limit id=1000000 takes it (row 7)"
    )


def test_one_text_that_many_rows_mean_is_not_copied_for_all_of_them_at_once(tmp_path: Path) -> None:
    """Hundreds of rows of the same megabyte are a megabyte and hundreds of numbers."""
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 300), pa.array(["M" * ROW_BYTES]))
    found = rows(parquet(tmp_path / "a.parquet", pa.table({"text": texts})))
    assert {(len(row.sequence), row.sequence[:1]) for row in found if isinstance(row.sequence, str)} == {
        (ROW_BYTES, "M")
    }
    assert peak_bytes() < MEMORY_MOST + LIBRARIES


def test_a_sequence_longer_than_any_is_quarantined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "MEMORY_MOST", 4 * MEMORY_MOST)
    table = pa.table({"id": ["a", "b"], "text": ["A" * (SEQUENCE_MOST + 1), "MKV"]})
    long, sound = read(parquet(tmp_path / "a.parquet", table))
    assert (long.id, sound.sequence, sound.problem) == ("a", "MKV", None)
    assert str(long.problem).startswith(f"a sequence of {SEQUENCE_MOST + 1:,} bytes, more than")


def null_file(path: Path, num_rows: int) -> Path:
    schema = pa.schema([("text", pa.null())])
    with pa.ipc.new_file(path, schema) as writer:
        writer.write_batch(pa.record_batch([pa.nulls(num_rows)], schema=schema))
    return path


def test_rows_of_nothing_are_refused_where_a_file_cannot_hold_them(tmp_path: Path) -> None:
    path = null_file(tmp_path / "a.arrow", 2_000_000_000)
    with pytest.raises(InputError, match=r"a\.arrow: says that it has 2,000,000,000 rows, which its bytes"):
        read(path)


def test_a_few_rows_of_nothing_are_records_without_a_sequence(tmp_path: Path) -> None:
    records = read(null_file(tmp_path / "a.arrow", 3_000))
    assert {record.problem for record in records} == {"empty sequence"}
    assert len(records) == 3_000


def test_a_row_group_that_is_larger_than_the_memory_is_read_a_few_rows_at_once(tmp_path: Path) -> None:
    texts = ["ACGT"[index % 4] * ROW_BYTES for index in range(180)]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": texts}), path, use_dictionary=False, write_batch_size=4)
    assert pq.ParquetFile(path).metadata.row_group(0).total_byte_size > MEMORY_MOST
    assert [row.sequence for row in rows(path)] == texts
    assert peak_bytes() < MEMORY_MOST + LIBRARIES


def test_nesting_in_what_is_kept_is_an_error_and_no_end(tmp_path: Path) -> None:
    """A list of 10^9 missing values takes no bytes in a file, and 8 GB in memory."""
    lists = pa.ListArray.from_arrays(pa.array([0, 1_000_000_000], pa.int32()), pa.nulls(1_000_000_000))
    path = tmp_path / "a.arrow"
    batch = pa.record_batch({"text": ["MKV"], "list": lists})
    with pa.ipc.new_file(path, batch.schema) as writer:
        writer.write_batch(batch)
    with pytest.raises(InputError, match=r"a\.arrow: batch 1: takes more memory"):
        [*Dataset([Input(path, path)], alphabet="text", keep="list")]
