"""What is kept beside a record, of whatever type Arrow has: its text, or a line that names the column."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from queue_app.errors import InputError
from queue_app.ingest.readers.columns import Columns
from queue_app.ingest.readers.formats import FORMATS
from queue_app.ingest.readers.keep import Keep
from queue_app.ingest.readers.sources import Input, open_source

Write = Callable[[pa.Table, Path], None]


def as_parquet(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path)


def as_arrow(table: pa.Table, path: Path) -> None:
    with path.open("wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def kept(column: pa.Array, path: Path, write: Write = as_arrow) -> list[object]:
    """What a reader keeps of a column `x`."""
    rows = len(column)
    write(pa.table({"id": ["a"] * rows, "seq": ["MKV"] * rows, "x": column}), path)
    form = FORMATS["parquet" if write is as_parquet else "arrow"]
    with open_source(Input(path, path)) as source:
        return [(row.kept or {})["x"] for row in form.read(source, Columns(keep=Keep.of("all")))]


@pytest.mark.parametrize("write", [as_parquet, as_arrow])
def test_maps_are_kept_as_their_pairs(tmp_path: Path, write: Write) -> None:
    values = [[("k", [1.5])], None, [], [("a", None)]]
    column = pa.array(values, pa.map_(pa.string(), pa.list_(pa.float32())))
    found = kept(column, tmp_path / "table", write)
    assert found == ['[["k", [1.5]]]', None, "[]", '[["a", null]]']
    nested = kept(pa.array([[value] for value in values], pa.list_(column.type)), tmp_path / "table", write)
    assert [json.loads(str(text)) for text in nested] == [[[["k", [1.5]]]], [None], [[]], [[["a", None]]]]


def test_a_map_of_a_large_batch_counts_with_its_own_rows_alone(tmp_path: Path) -> None:
    """A batch of more values than are made at once is read a few rows at a time."""
    column = pa.array([[(key, 0) for key in range(60)]] * 40_000, pa.map_(pa.int8(), pa.int8()))
    assert len(kept(column, tmp_path / "a.arrow")) == 40_000


@pytest.mark.parametrize("values", [["a", "b"], [1, 2], [[1], [2, 3]]])
def test_equal_values_that_are_written_once_are_kept_for_each_row(
    tmp_path: Path, values: list[object]
) -> None:
    column = pa.RunEndEncodedArray.from_arrays([3, 9], pa.array(values)).slice(1, 4)
    plain = pa.array([values[0], values[0], values[1], values[1]])
    assert kept(column, tmp_path / "a.arrow") == kept(plain, tmp_path / "b.arrow")


@pytest.mark.parametrize("write", [as_parquet, as_arrow])
def test_points_in_time_that_python_has_not_are_kept_as_arrow_writes_them(
    tmp_path: Path, write: Write
) -> None:
    for value, kind, text in (
        (3, pa.timestamp("ns"), "1970-01-01 00:00:00.000000003"),
        (1000, pa.timestamp("ns"), "1970-01-01 00:00:00.000001000"),
        (3, pa.duration("ns"), "3"),
        (1 << 62, pa.duration("s"), str(1 << 62)),
        ((1 << 31) - 1, pa.date32(), f"<value out of range: {(1 << 31) - 1}>"),
    ):
        for nested in (pa.list_(kind), pa.struct([("x", kind)]), pa.map_(pa.string(), kind)):
            held = [{"x": value}] if pa.types.is_struct(nested) else [[value]]
            column = pa.array([[("x", value)]] if pa.types.is_map(nested) else held, nested)
            assert f'"{text}"' in str(kept(column, tmp_path / "table", write)[0])


@pytest.mark.parametrize("write", [as_parquet, as_arrow])
def test_a_value_that_nobody_can_write_is_a_line_that_names_its_column(tmp_path: Path, write: Write) -> None:
    ones = pa.array([1])
    for column in (
        pa.array([1], pa.timestamp("ms", "Mars/Olympus")),
        pa.array([[1]], pa.list_(pa.timestamp("ms", "Mars/Olympus"))),
        pa.StructArray.from_arrays([ones, ones], ["y", "y"]),
    ):
        said = (
            r"table: column 'x' holds .*(Mars|y: int64).* of which a value has no text .*; --keep the others$"
        )
        with pytest.raises(InputError, match=said):
            kept(column, tmp_path / "table", write)


def test_what_arrow_says_of_a_damaged_file_has_no_control_characters(tmp_path: Path) -> None:
    as_parquet(pa.table({"id": ["a"], "seq": ["MKV"]}), path := tmp_path / "a.parquet")
    data = bytearray(path.read_bytes())
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    data[footer] |= 0x0F  # a type that Thrift has not, which it names by its number as a character
    path.write_bytes(data)
    said = r"a\.parquet: the Parquet file is damaged .*\\x0f"
    with pytest.raises(InputError, match=said) as refused, open_source(Input(path, path)) as source:
        [*FORMATS["parquet"].read(source, Columns())]
    assert "\x0f" not in str(refused.value)
