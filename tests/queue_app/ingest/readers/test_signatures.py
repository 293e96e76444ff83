"""A file is read as what it begins with, or refused; never as what its name says and it is not."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather
import pytest

from queue_app.choices import InputFormat
from queue_app.errors import InputError
from queue_app.ingest.readers.formats import FORMATS, format_of
from queue_app.ingest.readers.sources import Input
from queue_app.ingest.records import Dataset
from tests.support.input_files import EVERY_KIND, PACKED, TEXTS, contents

RECORDS = [("p1", "MKVLAT"), ("p2", "GLSDGEWQ"), ("p3", "MKV")]
FASTA = "".join(f">{name} of this\n{text}\n" for name, text in RECORDS)


def read(path: Path, input_format: InputFormat | None = None) -> list[tuple[str, str]]:
    dataset = Dataset([Input(path, path)], alphabet="text", input_format=input_format)
    return [(record.id, record.sequence) for record in dataset]


def written(home: Path, name: str, content: str | bytes) -> Path:
    (path := home / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read_or_refused(path: Path) -> list[tuple[str, str]] | str:
    """The records, or what the refusal begins with."""
    try:
        return read(path)
    except InputError as error:
        return str(error)[: len(str(path)) + 2]


ENDINGS = [form.endings[0] for form in FORMATS.values()]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("kind", EVERY_KIND)
def test_a_file_under_any_other_name_is_read_as_what_it_is_or_refused(
    tmp_path: Path, kind: str, ending: str
) -> None:
    """Each of the eight formats, packed in each way, under the names of all the others."""
    packed = next((mark for mark in PACKED if mark and kind.endswith(mark)), "")
    path = written(tmp_path, f"a{ending}{packed}", contents(kind, RECORDS))
    expected = [("1", "MKVLAT"), ("2", "GLSDGEWQ"), ("3", "MKV")] if kind.startswith(".txt") else RECORDS
    allowed = [expected] if kind.removesuffix(packed) == ending else [expected, f"{path}: "]
    assert read_or_refused(path) in allowed


@pytest.mark.parametrize("before", ["", "\ufeff", "\n\n", "  ", "\r\n"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_fasta_called_txt_is_fasta(tmp_path: Path, before: str, end: str) -> None:
    path = written(tmp_path, "a.txt", before + FASTA.replace("\n", end))
    assert read(path) == RECORDS
    assert read(written(tmp_path, "a.fasta", before + FASTA)) == RECORDS


def test_fasta_behind_comments_that_is_called_txt_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "a.txt", f"# exported\n; by hand\n\n{FASTA}")
    with pytest.raises(
        InputError, match="begins as FASTA does, behind comments: say --input-format fasta, or"
    ):
        read(path)
    assert read(path, "fasta") == RECORDS


@pytest.mark.parametrize("ending", [".fasta", ".txt", ".csv", ".tsv", ""])
def test_fastq_under_any_name_is_fastq(tmp_path: Path, ending: str) -> None:
    assert read(written(tmp_path, f"a{ending}", contents(".fastq", RECORDS))) == RECORDS


def test_lines_that_begin_with_an_at_sign_are_lines(tmp_path: Path) -> None:
    texts = ["@holdfast works", "really", "+ it is fast", "ok"]
    assert [text for _, text in read(written(tmp_path, "a.txt", "\n".join(texts)))] == texts


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.fasta", "a.jsonl", "a"])
@pytest.mark.parametrize("kind", [".parquet", ".arrow", ".arrows"])
def test_parquet_and_arrow_are_told_by_their_first_bytes(tmp_path: Path, kind: str, name: str) -> None:
    assert read(written(tmp_path, name, contents(kind, RECORDS))) == RECORDS


def test_arrow_called_parquet_is_read_and_a_text_that_spells_a_magic_is_a_text(tmp_path: Path) -> None:
    assert read(written(tmp_path, "a.parquet", contents(".arrow", RECORDS))) == RECORDS
    assert read(written(tmp_path, "a.feather", contents(".parquet", RECORDS))) == RECORDS
    texts = ["PAR1 is a receptor of thrombin", "ARROW1 is none"]
    assert [text for _, text in read(written(tmp_path, "a.txt", "\n".join(texts)))] == texts
    assert [text for _, text in read(written(tmp_path, "a.txt", "\n".join(texts[::-1])))] == texts[::-1]


def test_json_lines_are_read_under_the_names_of_json_and_of_lines(tmp_path: Path) -> None:
    for name in ("a.json", "a.txt", "a.jsonl", "a"):
        assert read(written(tmp_path, name, contents(".jsonl", RECORDS))) == RECORDS


WHOLE = {
    "one object, an entry a record": json.dumps({f"P{number}": "MKV" + "L" * number for number in range(5)}),
    "the same in lines": json.dumps({"P1": "MKV", "P2": "MKL"}, indent=1),
    "an array of objects": json.dumps([{"id": "a", "sequence": "MKV"}, {"id": "b", "sequence": "MKL"}]),
    "an array in lines": json.dumps([{"id": "a", "sequence": "MKV"}], indent=2),
    "an array of strings": json.dumps(["MKV", "MKL"]),
}
"""JSON, and no JSON lines."""
NO_RECORDS = {
    "columns of values": json.dumps({"id": ["a", "b"], "sequence": ["MKV", "MKL"]}),
    "columns by row": json.dumps({"id": {"0": "a"}, "sequence": {"0": "MKV"}}),
    "an object around an array": json.dumps({"data": [{"id": "a", "sequence": "MKV"}]}),
    "two objects in one line": '{"id": "a", "sequence": "MKV"} {"id": "b", "sequence": "MKL"}',
    "an object over several lines": json.dumps({"id": "a", "sequence": "MKV"}, indent=1),
}


@pytest.mark.parametrize("name", ["a.json", "a", "a.json.gz"])
@pytest.mark.parametrize("document", WHOLE)
def test_json_is_told_from_json_lines_by_its_begin(tmp_path: Path, document: str, name: str) -> None:
    packed = PACKED[".gz" if name.endswith(".gz") else ""]
    assert read(written(tmp_path, name, packed(WHOLE[document].encode()))) == read(
        written(tmp_path, "b.json", WHOLE[document]), "json"
    )


@pytest.mark.parametrize("document", [name for name in WHOLE if "array" in name])
def test_an_array_called_json_lines_is_read_as_what_it_is(tmp_path: Path, document: str) -> None:
    assert read(written(tmp_path, "a.jsonl", WHOLE[document]))


REFUSED = [
    (name, document) for name in ("a.json", "a.jsonl", "a.txt", "a.json.gz") for document in NO_RECORDS
]
REFUSED += [("a.txt", document) for document in WHOLE]
REFUSED += [("a.jsonl", document) for document in WHOLE if "array" not in document]


@pytest.mark.parametrize(("name", "document"), REFUSED)
def test_json_that_is_no_records_or_called_something_else_is_refused(
    tmp_path: Path, document: str, name: str
) -> None:
    packed = PACKED[".gz" if name.endswith(".gz") else ""]
    path = written(tmp_path, name, packed({**NO_RECORDS, **WHOLE}[document].encode()))
    with pytest.raises(InputError) as refused:
        read(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


TABLES = {
    "commas": ("id,sequence\np1,MKV\n", "csv"),
    "commas and quotation marks": ('"id","sequence"\n"p1","MKV"\n', "csv"),
    "commas, no known name": ("label,family,sequence_aa\na,KINASE,MKV\nb,KINASE,MKL\n", "csv"),
    "tabs": ("Entry\tReviewed\tOrganism\nP1\treviewed\tRabbit\n", "tsv"),
    "tabs without a header": ("p1\tMKV\np2\tMKL\n", "tsv"),
    "semicolons": ("id;sequence\np1;MKV\n", "csv --delimiter ';'"),
    "bars": ("id|name|residues\np1|a|MKV\n", r"csv --delimiter '\|'"),
    "blanks": ("id sequence\np1 MKV\n", "csv --delimiter ' '"),
    "one column": ("sequence\nMKV\nMKL\n", "csv"),
    "one column, quoted": ('"text"\n"one"\n', "csv"),
    "commas, ended as on old Macs": ("id,sequence\rp1,MKV\r", "csv"),
}


@pytest.mark.parametrize("table", TABLES)
def test_a_table_called_txt_is_refused_as_its_header_would_be_a_record(tmp_path: Path, table: str) -> None:
    content, form = TABLES[table]
    path = written(tmp_path, "a.txt", content)
    with pytest.raises(InputError, match=f"says plain lines, but .*say --input-format {form}, or lines if"):
        read(path)
    assert len(read(path, "lines")) == len(content.splitlines())


UNREAD = {
    "GenBank": "LOCUS       SCU49845     5028 bp    DNA             PLN       21-JUN-1999\nDEFINITION  x\n",
    "UniProt": "ID   CRAB_ANAPL              Reviewed;         174 AA.\nAC   Q05557;\n",
    "Clustal": "CLUSTAL W (1.83) multiple sequence alignment\n\nsp|P1   MKV\nsp|P2   MK-\n",
    "Stockholm": "# STOCKHOLM 1.0\nsp|P1 MKV\n//\n",
    "XML": "<?xml version='1.0'?>\n<uniprot/>\n",
}


@pytest.mark.parametrize("title", UNREAD)
@pytest.mark.parametrize("name", ["a.txt", "a.fasta"])
def test_a_format_that_is_not_read_is_no_plain_lines(tmp_path: Path, title: str, name: str) -> None:
    with pytest.raises(InputError, match=f"begins as {title}.* does, which is not read|not FASTA"):
        read(written(tmp_path, name, UNREAD[title]))


PROSE = [
    ["Hello, world", "Well, yes", "No, thanks"],
    ["one", "two", "three"],
    ["MKV", "MKL"],
    ["A sentence; and another", "a; b"],
    ["[1] A reference, as they stand in articles", "[CLS] a, b"],
    ["{braces} in a text", "[ ] to do"],
    ["# a title", "text"],
    ["The name of a text", "The text of a name, and more of it"],
]


@pytest.mark.parametrize("texts", PROSE)
def test_plain_lines_stay_plain_lines(tmp_path: Path, texts: list[str]) -> None:
    assert [text for _, text in read(written(tmp_path, "a.txt", "\n".join(texts)))] == texts


CONTRADICTIONS = {
    "FASTA called CSV": ("a.csv", FASTA, "its name says CSV, but it begins with > as FASTA does"),
    "FASTA called TSV": ("a.tsv.gz", FASTA, "its name says TSV, but it begins with > as FASTA does"),
    "FASTA called JSON lines": ("a.jsonl", FASTA, "line 1: not JSON lines"),
    "tabs called CSV": ("a.csv", "id\tsequence\na\tMKV\n", r"it has: id sequence; .*see --delimiter"),
    "commas called TSV": ("a.tsv", "id,sequence\na,MKV\n", r"it has: id,sequence; .*see --delimiter"),
    "CSV called FASTA": ("a.fasta", "id,sequence\na,MKV\n", "not FASTA: a record begins with >"),
    "lines called FASTA": ("a.fa", "MKV\nMKL\n", "not FASTA: a record begins with >"),
    "lines called Parquet": ("a.parquet", "MKV\nMKL\n", "not a Parquet file"),
    "JSON lines called CSV": ("a.csv", '{"id": "a", "sequence": "MKV"}\n', "no column of sequences"),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_what_contradicts_its_name_is_refused(tmp_path: Path, case: str) -> None:
    name, content, message = CONTRADICTIONS[case]
    data = PACKED[".gz" if name.endswith(".gz") else ""](content.encode())
    with pytest.raises(InputError, match=message):
        read(written(tmp_path, name, data))


def test_what_was_asked_for_counts_more_than_any_sign(tmp_path: Path) -> None:
    path = written(tmp_path, "a.txt", "> a quotation\nand an answer\n")
    assert read(path, "lines") == [("1", "> a quotation"), ("2", "and an answer")]


def test_a_table_is_told_from_its_first_lines_however_long_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "a.txt", "id\tsequence\n" + "p\tMKV\n" * 100_000)
    with pytest.raises(InputError, match="it looks like a table"):
        format_of(Input(path, path))
    feather.write_feather(pa.table({"text": ["a"] * 100_000}), tmp_path / "b.txt")
    assert format_of(Input(tmp_path / "b.txt", tmp_path / "b.txt")) == "arrow"


def test_every_text_format_has_its_signs_tried() -> None:
    assert {ending for ending in ENDINGS if ending in TEXTS} == set(TEXTS)
