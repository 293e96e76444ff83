"""From what readers found to kept.parquet: every record has its row, and every column its type."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from queue_app.host.durable_files import file_digest
from queue_app.ingest import kept_spool
from queue_app.ingest.kept_spool import KeptSpool
from queue_app.job.shard_files import Record
from queue_app.job.spec import KeptFile


def records(rows: Sequence[Mapping[str, object]]) -> list[Record]:
    return [Record(ordinal, f"p{ordinal}", "MK", None, row) for ordinal, row in enumerate(rows)]


def spooled(
    home: Path, rows: Sequence[Mapping[str, object]], *first: str
) -> tuple[KeptFile | None, pa.Table | None]:
    given = records(rows)
    with KeptSpool(home / ".kept") as spool:
        assert list(spool.passing(given)) == given
        kept = spool.write(home / "kept.parquet", first)
    assert not (home / ".kept").exists()
    if kept is None:
        return None, None
    assert kept.digest == file_digest(home / "kept.parquet")
    table = pq.read_table(home / "kept.parquet")
    assert tuple(table.column_names) == kept.columns
    assert table.num_rows == len(rows)
    return kept, table


COLUMNS: dict[str, tuple[list[Any], pa.DataType, list[Any]]] = {
    "texts": (["a", None, ""], pa.string(), ["a", None, ""]),
    "whole numbers": ([1, None, -(2**62)], pa.int64(), [1, None, -(2**62)]),
    "numbers": ([1, 0.1, float("inf")], pa.float64(), [1.0, 0.1, float("inf")]),
    "truth": ([True, None, False], pa.bool_(), [True, None, False]),
    "nothing": ([None, None, None], pa.string(), [None, None, None]),
    "a number among texts": (["a", 7, True], pa.string(), ["a", "7", "true"]),
    "what a float would round": ([2**53 + 1, 0.5, None], pa.string(), ["9007199254740993", "0.5", None]),
    "what no int64 holds": ([2**64, 1, None], pa.string(), ["18446744073709551616", "1", None]),
    "lists and objects": ([[1, "é"], {"x": None}, None], pa.string(), ['[1, "é"]', '{"x": null}', None]),
    "bytes that are no text": ([b"\xff", b"ok", None], pa.string(), ["\\xff", "ok", None]),
    "half of a pair": (["\ud800", "é", None], pa.string(), ["\\ud800", "é", None]),
}


@pytest.mark.parametrize("case", COLUMNS)
def test_a_column_has_the_type_of_all_its_values_or_their_texts(tmp_path: Path, case: str) -> None:
    values, kind, expected = COLUMNS[case]
    _, table = spooled(tmp_path, [{"x": value} for value in values])
    assert table is not None
    assert table.schema.field("x").type == kind
    assert table["x"].to_pylist() == expected


@pytest.mark.parametrize("at_once", [1, 2, 16_384])
def test_a_column_that_comes_up_late_has_no_value_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(kept_spool, "ROWS_AT_ONCE", at_once)
    kept, table = spooled(tmp_path, [{}, {"a": 1}, {}, {"b": "x", "a": 2}, {}], "b", "never")
    assert kept is not None
    assert table is not None
    assert kept.columns == ("b", "a")
    assert table["a"].to_pylist() == [None, 1, None, 2, None]
    assert table["b"].to_pylist() == [None, None, None, "x", None]


def test_where_nothing_is_kept_there_is_no_file(tmp_path: Path) -> None:
    assert spooled(tmp_path, [{}, {}]) == (None, None)
    assert list(tmp_path.iterdir()) == []


def test_equal_inputs_give_equal_bytes(tmp_path: Path) -> None:
    rows = [{"description": f"protein {number % 7}", "n": number} for number in range(1_000)]
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        spooled(tmp_path / name, rows)
    assert (tmp_path / "one/kept.parquet").read_bytes() == (tmp_path / "two/kept.parquet").read_bytes()


def test_a_spool_of_many_texts_is_never_in_memory_whole(tmp_path: Path) -> None:
    """40 MB of text that repeats nothing: not half of it is held at a time."""
    chance = np.random.default_rng(0)
    before, most = pa.total_allocated_bytes(), 0

    def rows() -> Any:
        nonlocal most
        for number in range(20_000):
            most = max(most, pa.total_allocated_bytes() - before)
            yield Record(number, "", "", None, {"x": chance.bytes(1_000).hex()})

    with KeptSpool(tmp_path / ".kept") as spool:
        for _ in spool.passing(rows()):
            pass
        spool.write(tmp_path / "kept.parquet", ())
    assert most < 16 << 20
    assert pq.read_metadata(tmp_path / "kept.parquet").num_row_groups >= 8
