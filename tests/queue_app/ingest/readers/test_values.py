"""One bad value of millions sets its record aside, with its place; the job goes on. A bad line stops it."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from queue_app.choices import Alphabet
from queue_app.errors import InputError
from queue_app.ingest.readers.sources import Input
from queue_app.ingest.records import Dataset
from queue_app.job.shard_files import Record
from tests.support.command_runs import holdfast
from tests.support.input_files import arrow_bytes


def records(path: Path, alphabet: Alphabet = "text", **columns: str) -> list[Record]:
    dataset = Dataset([Input(path, path)], alphabet=alphabet, **columns)  # type: ignore[arg-type]
    dataset.check()
    return list(dataset)


def written(home: Path, name: str, content: str | bytes) -> Path:
    (path := home / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return path


BAD_VALUES: dict[str, tuple[str, str]] = {
    "a NUL": (r'"M\u0000K"', "a NUL character in the sequence"),
    "half a surrogate pair": (r'"M\ud800K"', "half of a surrogate pair in the sequence"),
    "a number": ("5", "a number in the place of a sequence"),
    "a number with a fraction": ("5.5", "a number in the place of a sequence"),
    "not a number": ("NaN", "a number in the place of a sequence"),
    "true": ("true", "true or false in the place of a sequence"),
    "a list": ('["MK"]', "a list in the place of a sequence"),
    "an object": ('{"a": "MK"}', "an object in the place of a sequence"),
}


@pytest.mark.parametrize("place", [0, 2, 4])
@pytest.mark.parametrize("value", BAD_VALUES)
def test_a_value_in_json_lines_that_is_no_sequence_sets_its_record_aside(
    tmp_path: Path, value: str, place: int
) -> None:
    shown, reason = BAD_VALUES[value]
    lines = [f'{{"id": "p{number}", "seq": "MKV"}}' for number in range(5)]
    lines[place] = f'{{"id": "p{place}", "seq": {shown}}}'
    found = records(written(tmp_path, "a.jsonl", "\n".join(lines)))
    assert [record.id for record in found] == [f"p{number}" for number in range(5)]
    assert [record.ordinal for record in found if record.problem] == [place]
    assert found[place].problem == f"{reason} (line {place + 1})"
    assert all(record.sequence == "MKV" for record in found if not record.problem)


def test_null_is_as_good_as_empty_and_a_missing_key_is_named(tmp_path: Path) -> None:
    lines = ['{"id": "a", "seq": "MK"}', '{"id": "b", "seq": null}', "", '{"id": "c"}', '{"seq": "MV"}']
    found = records(written(tmp_path, "a.jsonl", "\n".join(lines)))
    assert [(record.id, record.problem) for record in found] == [
        ("a", None), ("b", "empty sequence"), ("c", "no 'seq' in it (line 4)"), ("", None),
    ]  # fmt: skip


BAD_IDS = {
    r'"a\u0000b"': ("a\\u0000b", "a NUL character in the id"),
    r'"a\udfffb"': ("a\\udfffb", "half of a surrogate pair in the id"),
    "1.5": ("1.5", "an id that is neither a string nor a whole number, but a number"),
    "[1]": ("[1]", "an id that is neither a string nor a whole number, but a list"),
}


@pytest.mark.parametrize("value", BAD_IDS)
def test_an_id_that_no_output_can_hold_sets_its_record_aside_under_one_that_it_can(
    tmp_path: Path, value: str
) -> None:
    name, reason = BAD_IDS[value]
    path = written(tmp_path, "a.jsonl", f'{{"id": "x", "seq": "MK"}}\n{{"id": {value}, "seq": "MK"}}\n')
    good, bad = records(path)
    assert good.problem is None
    assert (bad.id, bad.problem) == (name, f"{reason} (line 2)")


NUL_IN_TEXT = {
    "a.csv": ("id,seq\na,MK\nb,M\0K\nc,MK\n", 3),
    "a.tsv": ("id\tseq\na\tMK\nb\tM\0K\nc\tMK\n", 3),
    "a.jsonl": ('{"seq": "MK"}\n{"seq": "M\0K"}\n{"seq": "MK"}\n', 2),
    "a.fasta": (">a\nMK\n>b\nM\0K\n>c\nMK\n", 3),
    "a.fastq": ("@a\nMK\n+\nII\n@b\nM\0K\n+\nIII\n@c\nMK\n+\nII\n", 5),
    "a.txt": ("MK\nM\0K\nMK\n", 2),
}


@pytest.mark.parametrize("alphabet", ["text", "protein"])
@pytest.mark.parametrize("name", NUL_IN_TEXT)
def test_a_nul_in_any_text_sets_its_record_aside(tmp_path: Path, name: str, alphabet: Alphabet) -> None:
    content, line = NUL_IN_TEXT[name]
    found = records(written(tmp_path, name, content), alphabet)
    assert [record.problem for record in found] == [
        None, f"a NUL character in the sequence (line {line})", None
    ]  # fmt: skip


def test_a_hole_of_zeros_is_damage_and_no_value(tmp_path: Path) -> None:
    """As a file system leaves it that lost power: records are missing there."""
    lines = "".join(f'{{"id": {number}, "seq": "MKV"}}\n' for number in range(1000))
    for name, text in {
        "a.jsonl": lines,
        "a.csv": "id,seq\n" + "a,MKV\n" * 5000,
        "a.txt": "MKV\n" * 9000,
    }.items():
        damaged = bytearray(text.encode())
        damaged[9000:13000] = bytes(4000)
        with pytest.raises(InputError, match=r"line \d+: NUL bytes"):
            records(written(tmp_path, name, bytes(damaged)))


@pytest.mark.parametrize("kind", ["a.parquet", "a.arrow", "a.arrows"])
def test_a_cell_of_a_table_that_is_no_text_sets_its_row_aside(tmp_path: Path, kind: str) -> None:
    table = pa.table(
        {
            "id": ["a", "b", "c\0", None, "e"],
            "seq": pa.array([b"MK", b"M\0K", b"MK", b"\xff\xfe", None], pa.binary()),
        }
    )
    if kind == "a.parquet":
        pq.write_table(table, tmp_path / kind)
    else:
        new = pa.ipc.new_file if kind == "a.arrow" else pa.ipc.new_stream
        (tmp_path / kind).write_bytes(arrow_bytes(table, new))
    assert [(record.id, record.problem) for record in records(tmp_path / kind)] == [
        ("a", None),
        ("b", "a NUL character in the sequence (row 2)"),
        ("c\\u0000", "a NUL character in the id (row 3)"),
        ("", "bytes that are no UTF-8 in the place of a sequence (row 4)"),
        ("e", "empty sequence"),
    ]


NOT_THE_FORMAT = {
    "a.jsonl": ('{"id": 1, "seq": "MK"}\nMKV\n', "line 2: not JSON lines"),
    "b.jsonl": ('{"id": 1, "seq": "MK"}\n["MKV"]\n', "line 2: not a JSON object, as every line must be one"),
    "a.csv": ("id,seq\na,MK\nb\n", "line 3: 1 fields, but the header has 2"),
    "a.tsv": ("id\tseq\na\tMK\nb\tMK\tx\n", "line 3: 3 fields, but the header has 2"),
    "a.fastq": ("@a\nMK\n+\nII\nMK\n", "line 5: not FASTQ"),
}


@pytest.mark.parametrize("name", NOT_THE_FORMAT)
def test_a_line_that_is_not_the_format_stops_the_job(tmp_path: Path, name: str) -> None:
    content, message = NOT_THE_FORMAT[name]
    with pytest.raises(InputError, match=f"{name}: {message}"):
        records(written(tmp_path, name, content))


def test_a_column_of_numbers_is_refused_as_a_whole(tmp_path: Path) -> None:
    pd.DataFrame({"id": ["a"], "text": [1.5]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(InputError, match="column 'text' holds double, and no text"):
        records(tmp_path / "a.parquet")


# ---- lines end as on any system

SAME: dict[str, str] = {
    "a.fasta": ">p1 x\nMKV\nLAT\n>p2\nGLS\n",
    "a.fastq": "@p1 x\nMKVLAT\n+\nIIIIII\n@p2\nGLS\n+\nIII\n",
    "a.csv": 'id,seq\np1,MKVLAT\np2,"GLS"\n',
    "a.tsv": "id\tseq\np1\tMKVLAT\np2\tGLS\n",
    "b.tsv": '"id"\t"seq"\n"p1"\t"MKVLAT"\n"p2"\t"GLS"\n',
    "a.jsonl": '{"id": "p1", "seq": "MKVLAT"}\n{"id": "p2", "seq": "GLS"}\n',
    "a.txt": "MKVLAT\nGLS\n",
    "a.pir": ">P1;p1\na title\nMKV LAT*\n>P1;p2\n\nGLS\n*\n",
}


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "mixed"])
@pytest.mark.parametrize("name", SAME)
def test_lines_end_in_every_text_format_as_on_any_system(
    tmp_path: Path, name: str, end: str, last: bool
) -> None:
    ends = ["\r", "\r\n", "\n"] if end == "mixed" else [end]
    lines = SAME[name].splitlines()
    text = "".join(line + ends[number % len(ends)] for number, line in enumerate(lines))
    path = written(tmp_path, name, text if last else text.rstrip("\r\n"))
    ids = ["1", "2"] if name == "a.txt" else ["p1", "p2"]
    found = [(record.id, record.sequence) for record in records(path)]
    assert found == [*zip(ids, ["MKVLAT", "GLS"], strict=True)]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_wrong_line_has_its_number_however_lines_end(tmp_path: Path, end: str) -> None:
    path = written(tmp_path, "a.csv", end.join(["id,seq", *["a,MK"] * 50_000, "b", ""]))
    with pytest.raises(InputError, match="line 50002: 1 fields"):
        records(path)
    path = written(tmp_path, "a.jsonl", end.join([*['{"id": 1, "seq": "MK"}'] * 50_000, "{", ""]))
    with pytest.raises(InputError, match="line 50001: not JSON"):
        records(path)
    path = written(tmp_path, "a.txt", end.join(["MK"] * 400_000).encode() + b"\xff" + end.encode())
    with pytest.raises(InputError, match="line 400000: not UTF-8"):
        records(path)


def test_a_large_file_that_ends_its_lines_as_old_macs_did_has_no_absurd_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("queue_app.ingest.readers.bounds.limits.LINE_BYTES_LEAST", 1 << 20)
    path = written(tmp_path, "a.fasta", b">a\r" + b"MKVLAT\r" * 600_000)
    (record,) = records(path)
    assert len(record.sequence) == 6 * 600_000


# ---- the whole command


def test_one_bad_value_of_many_is_listed_and_all_others_are_embedded(tmp_path: Path) -> None:
    values: list[Any] = ["MKV" + "LAT" * (number % 7) for number in range(3000)]
    values[7], values[1500], values[2999] = "M\0", 5, ["MK"]
    lines = [json.dumps({"id": f"p{number}", "seq": value}) for number, value in enumerate(values)]
    path = written(tmp_path, "a.jsonl", "\n".join(lines))
    command = ["embed", path, "-m", "mock:8", "-o", tmp_path / "out.npy", "--device", "cpu", "--workers", "1"]
    holdfast(*command, "--alphabet", "protein", expect=3)
    listed = (tmp_path / "out.npy.quarantine.tsv").read_text().splitlines()[1:]
    assert [line.split("\t")[1::2] for line in listed] == [
        ["p7", "a NUL character in the sequence (line 8)"],
        ["p1500", "a number in the place of a sequence (line 1501)"],
        ["p2999", "a list in the place of a sequence (line 3000)"],
    ]
    assert len((tmp_path / "out.ids.txt").read_text().split()) == 2997
    card = json.loads((tmp_path / "out.npy.card.json").read_text())
    assert set(card["quarantine"]["reasons"]) == {
        "a NUL character in the sequence",
        "a number in the place of a sequence",
        "a list in the place of a sequence",
    }
    assert card["inputs"][0]["read_as"] == {"format": "jsonl", "sequence_column": "seq", "id_column": "id"}
    assert "| JSON lines: sequences from 'seq', ids from 'id' |" in (tmp_path / "out.npy.card.md").read_text()
