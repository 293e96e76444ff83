"""Which columns of a table are read: those of known names or those asked for, in every format; no others."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from queue_app.errors import InputError, UsageError
from queue_app.ingest.readers.columns import ID_COLUMNS, SEQUENCE_COLUMNS, parse_delimiter
from queue_app.ingest.readers.formats import reading, readings
from queue_app.ingest.readers.sources import Input
from queue_app.ingest.records import Dataset
from queue_app.job.spec import InputFile, ReadAs
from tests.support.input_files import arrow_bytes

Rows = Sequence[Sequence[str]]


def as_separated(names: Sequence[str], rows: Rows, delimiter: str) -> bytes:
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter).writerows([names, *rows])
    return file.getvalue().encode()


def as_arrow(names: Sequence[str], rows: Rows) -> pa.Table:
    return pa.table({name: [row[place] for row in rows] for place, name in enumerate(names)})


def as_parquet(names: Sequence[str], rows: Rows) -> bytes:
    sink = io.BytesIO()
    pq.write_table(as_arrow(names, rows), sink)
    return sink.getvalue()


KINDS = {
    "a.csv": lambda names, rows: as_separated(names, rows, ","),
    "a.tsv": lambda names, rows: as_separated(names, rows, "\t"),
    "a.jsonl": lambda names, rows: "".join(
        json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows
    ).encode(),
    "a.parquet": as_parquet,
    "a.arrow": lambda names, rows: arrow_bytes(as_arrow(names, rows), pa.ipc.new_file),
    "a.arrows": lambda names, rows: arrow_bytes(as_arrow(names, rows), pa.ipc.new_stream),
}
every_kind = pytest.mark.parametrize("kind", KINDS)
SPELLED = ["Sequence", "SEQ", " text ", "Protein sequence", "aa-sequence"]


def written(home: Path, kind: str, names: Sequence[str], *rows: Sequence[str]) -> Path:
    (path := home / kind).write_bytes(KINDS[kind](names, rows))
    return path


def read(path: Path, **asked: str) -> list[tuple[str, str]]:
    dataset = Dataset([Input(path, path)], alphabet="text", **asked)  # type: ignore[arg-type]
    dataset.check()
    return [(record.id, record.sequence) for record in dataset]


def read_as(path: Path, **asked: str) -> ReadAs:
    dataset = Dataset([Input(path, path)], alphabet="text", **asked)  # type: ignore[arg-type]
    list(dataset)
    (file,) = dataset.inputs
    assert file.read_as is not None
    return file.read_as


UNKNOWN = {
    "UniProt's default": (
        ["Entry", "Reviewed", "Entry Name", "Protein names", "Gene Names", "Organism", "Length"],
        ["P12345", "reviewed", "AATM_RABIT", "Aspartate aminotransferase", "GOT2", "Rabbit", "430"],
    ),
    "a table of kinases": (["label", "family", "sequence_aa"], ["a", "KINASE", "MKV"]),
    "a crawl": (["url", "timestamp", "content"], ["http://a", "2020-01-01", "text"]),
    "molecules": (["smiles", "id", "logp"], ["CCO", "m1", "0.2"]),
    "two columns": (["foo", "bar"], ["a", "b"]),
    "ids alone": (["id"], ["MKV"]),
    "names alone": (["accession", "name"], ["MKV", "MKL"]),
    "a column that only contains the word": (["id", "sequence_length"], ["a", "MKV"]),
    "values in place of names": (["P1", "MKV"], ["P2", "MKL"]),
}


@every_kind
@pytest.mark.parametrize("name", UNKNOWN)
def test_a_table_without_a_column_of_a_known_name_is_refused_with_those_it_has(
    tmp_path: Path, kind: str, name: str
) -> None:
    names, row = UNKNOWN[name]
    path = written(tmp_path, kind, names, row)
    with pytest.raises(InputError) as refused:
        read(path)
    message = str(refused.value)
    assert message.startswith(str(path))
    assert f"it has: {', '.join(names)}; say with --sequence-column" in message


@every_kind
@pytest.mark.parametrize("name", [*SEQUENCE_COLUMNS, *SPELLED])
def test_a_column_of_a_known_name_is_read_wherever_it_stands(tmp_path: Path, kind: str, name: str) -> None:
    path = written(tmp_path, kind, ["label", name, "id", "length"], ["KINASE", "MKV", "p1", "3"])
    assert read(path) == [("p1", "MKV")]


@every_kind
@pytest.mark.parametrize("names", [("sequence", "text"), ("seq", "sequence"), ("Sequence", "sequence")])
def test_of_two_known_columns_none_is_guessed(tmp_path: Path, kind: str, names: tuple[str, str]) -> None:
    path = written(tmp_path, kind, ["id", *names], ["a", "MKV", "MKL"])
    with pytest.raises(InputError, match=f"say with --sequence-column which one of {', '.join(names)} it is"):
        read(path)
    assert read(path, sequence_column=names[1]) == [("a", "MKL")]


@every_kind
@pytest.mark.parametrize("name", ID_COLUMNS)
def test_an_id_is_known_by_its_name_and_is_never_a_sequence(tmp_path: Path, kind: str, name: str) -> None:
    path = written(tmp_path, kind, ["seq", name.upper()], ["MKV", "p1"], ["MKL", "p2"])
    assert read(path) == [("p1", "MKV"), ("p2", "MKL")]
    assert read_as(path).id_column == name.upper()
    with pytest.raises(InputError, match="no column of sequences"):
        read(written(tmp_path, kind, ["label", name], ["a", "MKV"]))


@every_kind
def test_of_several_ids_the_one_that_says_so_most_plainly_is_taken(tmp_path: Path, kind: str) -> None:
    names = ["Entry", "Entry Name", "name", "Sequence"]
    assert read(written(tmp_path, kind, names, ["P1", "A_B", "alpha", "MKV"])) == [("P1", "MKV")]


@every_kind
def test_without_an_id_of_a_known_name_records_are_numbered(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path, kind, ["label", "text"], ["x", "one"], ["y", "two"])
    assert read(path) == [("1", "one"), ("2", "two")]
    assert reading(read_as(path)).endswith(": sequences from 'text', their numbers as ids")
    assert read(path, id_column="label") == [("x", "one"), ("y", "two")]


@every_kind
def test_what_was_asked_for_is_read_whatever_its_name(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path, kind, ["smiles", "id", "logp"], ["CCO", "m1", "0.2"])
    assert read(path, sequence_column="smiles") == [("m1", "CCO")]
    assert read(path, sequence_column="smiles", id_column="smiles") == [("CCO", "CCO")]
    assert read(path, sequence_column="id") == [("1", "m1")]
    taken = read_as(path, sequence_column="smiles")
    assert (taken.sequence_column, taken.id_column) == ("smiles", "id")


def test_many_columns_are_not_all_named(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", [f"c{number}" for number in range(500)], ["x"] * 500)
    with pytest.raises(InputError, match=r"c10, c11, … and 488 more; say with") as refused:
        read(path)
    assert len(str(refused.value)) < 400


# ---- what separates the fields


@pytest.mark.parametrize("kind", ["a.csv", "a.tsv"])
@pytest.mark.parametrize("delimiter", [";", "|", "\t", ",", ":"])
def test_a_delimiter_can_be_asked_for(tmp_path: Path, kind: str, delimiter: str) -> None:
    rows = [("a", "MKV"), ("b", "M KL")]
    (path := tmp_path / kind).write_bytes(as_separated(["id", "seq"], rows, delimiter))
    assert read(path, delimiter=parse_delimiter(delimiter)) == rows
    frame = pd.read_csv(path, sep=delimiter)
    assert [*zip(frame["id"], frame["seq"], strict=True)] == rows


@pytest.mark.parametrize("text", ["tab", "\\t", "\t"])
def test_a_tab_can_be_written_in_every_way(text: str) -> None:
    assert parse_delimiter(text) == "tab"


@pytest.mark.parametrize("text", ["", ";;", "a", "1", '"', "\n", "\r", "\0"])
def test_what_separates_no_fields_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"--delimiter .*one sign"):
        parse_delimiter(text)


@pytest.mark.parametrize("option", ["delimiter", "id_column", "sequence_column"])
def test_an_option_for_tables_is_refused_where_there_is_none(tmp_path: Path, option: str) -> None:
    (fasta := tmp_path / "a.fasta").write_text(">a\nMKV\n")
    (lines := tmp_path / "a.txt").write_text("one\ntwo\n")
    for path, message in ((fasta, "none of the inputs is a table"), (lines, "plain lines have no columns")):
        with pytest.raises(InputError, match=message):
            read(path, **{option: "x"})


# ---- pandas and polars


def test_a_named_index_of_pandas_can_be_the_id(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    frame = pd.DataFrame({"label": ["x", "y"], "sequence": ["MKV", "MKL"]})
    frame.set_index(pd.Index(["p1", "p2"], name="Entry")).to_parquet(path)
    assert read(path) == [("p1", "MKV"), ("p2", "MKL")]
    frame.set_index(pd.Index(["p1", "p2"], name="gene")).to_parquet(path)
    assert read(path) == [("1", "MKV"), ("2", "MKL")]
    assert read(path, id_column="gene") == [("p1", "MKV"), ("p2", "MKL")]
    frame.set_index(["label", pd.Index([7, 8], name="id")]).to_parquet(path)
    assert read(path) == [("7", "MKV"), ("8", "MKL")]
    frame.to_parquet(path)
    assert read(path) == [("1", "MKV"), ("2", "MKL")]


def test_a_named_index_of_pandas_that_only_counts_is_the_id_that_pandas_reads(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    frame = pd.DataFrame({"sequence": [f"M{number}" for number in range(600)]})
    frame.index = pd.RangeIndex(10, 1210, 2, name="id")
    frame.to_parquet(path)
    series = pd.read_parquet(path)["sequence"]
    assert read(path) == [(str(index), text) for index, text in series.items()]
    pq.write_table(pq.read_table(path).slice(5, 100), path)  # keeps what pandas said of other rows
    assert pd.read_parquet(path).index[0] == 0
    assert read(path)[0] == ("1", "M5")


def test_what_polars_writes_is_read_by_the_same_names(tmp_path: Path) -> None:
    frame = pl.DataFrame({"Entry": ["P1", None], "n": [1, 2], "Sequence": ["MKV", "MKL"]})
    frame.write_csv(tmp_path / "a.csv")
    frame.write_parquet(tmp_path / "a.parquet")
    frame.write_ipc(tmp_path / "a.arrow")
    frame.write_ndjson(tmp_path / "a.jsonl")
    for path in tmp_path.iterdir():
        assert read(path) == [("P1", "MKV"), ("", "MKL")], path


# ---- what is said of it


def test_a_way_of_reading_is_said_once_and_only_where_the_names_do_not_say_it() -> None:
    names = ["a.csv", "b.csv", "c.fasta.gz", "d.txt", "e.txt", "stdin"]
    found = [
        *[ReadAs("csv", "seq", "id")] * 2, *[ReadAs("fasta")] * 2, ReadAs("lines"), ReadAs("jsonl", "text")
    ]  # fmt: skip
    files = [InputFile(name, f"/{name}", 1, "", way) for name, way in zip(names, found, strict=True)]
    assert list(readings(files)) == [
        "a.csv and 1 more: read as CSV: sequences from 'seq', ids from 'id'",
        "d.txt: read as FASTA",
        "stdin: read as JSON lines: sequences from 'text', their numbers as ids",
    ]
