"""What stays with a record: descriptions of headers, and the columns of tables that were asked for."""

import csv
import datetime
import io
import json
from pathlib import Path
from typing import Any

import pandas
import pyarrow as pa
import pytest

from queue_app.errors import InputError, UsageError
from queue_app.ingest.readers.keep import parse_keep
from queue_app.ingest.readers.sources import Input
from queue_app.ingest.records import Dataset
from tests.support.input_files import arrow_bytes

FASTA = """>sp|P12345|AATM_RABIT Aspartate aminotransferase, mitochondrial OS=Oryctolagus cuniculus
MKVLAT
>b\tbehind a tab
GLSD
>c
MKV
>P1;CRAB_ANAPL
>d   several   blanks\x20\x20
GLSD
""".replace(">P1;CRAB_ANAPL\n", ">P1;CRAB_ANAPL\nALPHA CRYSTALLIN B CHAIN.\nMDITIH*\n")


def kept(*paths: Path, **asked: Any) -> list[dict[str, object]]:
    dataset = Dataset([Input(path, path) for path in paths], alphabet="text", **asked)
    dataset.check()
    return [dict(record.kept) for record in dataset]


def written(home: Path, name: str, content: str | bytes) -> Path:
    (path := home / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_a_header_s_description_is_what_stands_behind_its_first_blank(tmp_path: Path) -> None:
    assert kept(written(tmp_path, "a.fasta", FASTA)) == [
        {"description": "Aspartate aminotransferase, mitochondrial OS=Oryctolagus cuniculus"},
        {"description": "behind a tab"},
        {},
        {"description": "ALPHA CRYSTALLIN B CHAIN."},
        {"description": "several   blanks"},
    ]
    assert kept(written(tmp_path, "a.fastq", "@r1 1:N:0\nAC\n+\nII\n")) == [{"description": "1:N:0"}]


def test_none_keeps_no_descriptions_and_a_table_keeps_nothing_unasked(tmp_path: Path) -> None:
    assert not any(kept(written(tmp_path, "a.fasta", FASTA), keep="none"))
    table = written(tmp_path, "a.csv", "id,seq,organism\na,MK,x\n")
    assert kept(table) == [{}]
    assert kept(table, keep="none") == [{}]


ROWS: list[dict[str, Any]] = [
    {
        "Entry": "P1",
        "Sequence": "MKV",
        "Organism, all": "Homo\nsapiens",
        "Length": 3,
        "Score": 0.1,
        "Checked": True,
    },
    {"Entry": "P2", "Sequence": "MK", "Organism, all": "", "Length": 2, "Score": 1e22, "Checked": False},
]
OTHERS = ["Organism, all", "Length", "Score", "Checked"]


def tables(home: Path) -> dict[str, Path]:
    frame = pandas.DataFrame(ROWS)
    frame.to_csv(home / "a.csv", index=False)
    frame.to_json(home / "a.jsonl", orient="records", lines=True)
    frame.to_json(home / "a.json", orient="records")
    frame.to_parquet(home / "a.parquet")
    frame.to_feather(home / "a.feather")
    return {path.suffix: path for path in home.glob("a.*")}


def expected(kind: str, names: list[str]) -> list[dict[str, object]]:
    """As pandas reads it; of a CSV every value is its text."""
    rows = [{name: row[name] for name in names} for row in ROWS]
    return [{name: str(value) for name, value in row.items()} for row in rows] if kind == ".csv" else rows


@pytest.mark.parametrize("kind", [".csv", ".jsonl", ".json", ".parquet", ".feather"])
def test_columns_stay_with_their_rows_in_every_format(tmp_path: Path, kind: str) -> None:
    path = tables(tmp_path)[kind]
    assert kept(path, keep="all") == expected(kind, OTHERS)
    assert kept(path, keep='Score,"Organism, all"') == expected(kind, ["Score", "Organism, all"])
    assert kept(path, keep=["Sequence"]) == expected(kind, ["Sequence"])
    with pytest.raises(
        InputError, match=rf"a\{kind}.*--keep: no .*'Organism'.* has: Entry, Sequence, Organism, all"
    ):
        kept(path, keep="Organism")


def test_types_that_are_not_simple_are_kept_as_their_text_or_as_json(tmp_path: Path) -> None:
    day = datetime.date(2026, 11, 30)
    columns = {
        "seq": ["MK", "MV"],
        "day": [day, None],
        "list": [[1, 2], None],
        "struct": [{"x": "é"}, None],
        "category": pa.array(["u", "v"]).dictionary_encode(),
        "half": pa.array([0.5, None], pa.float32()),
        "small": pa.array([7, None], pa.uint8()),
    }
    path = written(tmp_path, "a.arrow", arrow_bytes(pa.table(columns), pa.ipc.new_file))
    first, second = kept(path, keep="all")
    assert first == {
        "day": "2026-11-30", "list": "[1, 2]", "struct": '{"x": "é"}', "category": "u", "half": 0.5,
        "small": 7,
    }  # fmt: skip
    assert second == dict.fromkeys(("day", "list", "struct", "half", "small")) | {"category": "v"}


def test_a_key_may_be_missing_in_some_objects_and_not_in_all(tmp_path: Path) -> None:
    lines = [{"seq": "MK"}, {"seq": "MV", "note": "x"}, {"seq": "ML", "other": 1}]
    path = written(tmp_path, "a.jsonl", "\n".join(map(json.dumps, lines)))
    assert kept(path, keep="note") == [{"note": None}, {"note": "x"}, {"note": None}]
    assert kept(path, keep="all") == [{}, {"note": "x"}, {"other": 1}]
    with pytest.raises(InputError, match="no object has the key 'nothing'; the first has: seq"):
        kept(path, keep="nothing")
    path = written(tmp_path, "a.jsonl", '{"seq": "MK"}\n' * 2_000 + "no JSON\n")
    with pytest.raises(InputError, match="no object has the key 'note'"):  # before the end is read
        kept(path, keep="note")


def test_names_that_an_output_has_itself_are_refused(tmp_path: Path) -> None:
    for name in ("id", "ordinal", "embedding", "embedding_mean"):
        with pytest.raises(UsageError, match=f"--keep {name}: an output has a column of this name already"):
            parse_keep(f"organism,{name}")
        path = written(tmp_path, "a.csv", f"accession,seq,{name}\na,MK,x\n")
        with pytest.raises(InputError, match=f"--keep all: an output has a column '{name}' of its own"):
            kept(path, keep="all", id_column="accession")


@pytest.mark.parametrize("text", ["", ",", "a,,b", "a,a", "all,a", "none,a"])
def test_what_names_no_columns_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--keep"):
        parse_keep(text)


def test_a_name_with_a_comma_is_quoted_as_in_a_csv() -> None:
    names = ("Gene Names, primary", 'a "b"', "c")
    csv.writer(text := io.StringIO()).writerow(names)
    assert parse_keep(text.getvalue()) == parse_keep(names) == names


def test_columns_that_no_input_can_have_are_refused(tmp_path: Path) -> None:
    fasta = written(tmp_path, "a.fasta", FASTA)
    assert kept(fasta, keep="description") == kept(fasta)
    with pytest.raises(InputError, match=r"--keep organism: none .* is a table; headers have a description"):
        kept(fasta, keep="organism")
    lines = written(tmp_path, "a.txt", "one\ntwo\n")
    with pytest.raises(InputError, match=r"--keep organism: .* plain lines have nothing to keep"):
        kept(lines, keep="organism")


def test_a_column_that_stands_twice_or_has_no_name(tmp_path: Path) -> None:
    twice = written(tmp_path, "a.csv", "id,seq,x,x\na,MK,1,2\n")
    for keep in ("x", "all"):
        with pytest.raises(InputError, match="two columns 'x'"):
            kept(twice, keep=keep)
    pandas.DataFrame({"seq": ["MK"], "x": ["y"]}).to_csv(tmp_path / "b.csv")
    assert kept(tmp_path / "b.csv", keep="all") == [{"column 1": "0", "x": "y"}]
