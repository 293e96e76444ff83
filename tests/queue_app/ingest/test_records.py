"""Reading inputs: every record, in order, judged; and one clear error for what is no input."""

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from queue_app.choices import Alphabet
from queue_app.errors import InputError
from queue_app.ingest.census import Census
from queue_app.ingest.gather import gather
from queue_app.ingest.readers.bounds import limits
from queue_app.ingest.readers.bounds.limits import Limits
from queue_app.ingest.readers.sources import Input, digest_inputs
from queue_app.ingest.records import Dataset
from queue_app.job.shard_files import Record

Write = Callable[[str, str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return written


def read(*paths: Path, alphabet: Alphabet = "protein", **columns: Any) -> list[Record]:
    with gather(paths, paths[0].parent / "piped") as files:
        dataset = Dataset(files, alphabet=alphabet, **columns)
        dataset.check()
        return list(dataset)


def pairs(*paths: Path, alphabet: Alphabet = "protein", **columns: str) -> list[tuple[str, str]]:
    return [(record.id, record.sequence) for record in read(*paths, alphabet=alphabet, **columns)]


# ---- formats

FASTA = ">a first\nMKV\nLLA\n\n>b\nACD\n"


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_fasta_takes_the_header_up_to_the_blank_and_joins_the_lines(write: Write, newline: str) -> None:
    path = write("a.fasta", FASTA.replace("\n", newline))
    assert pairs(path) == [("a", "MKVLLA"), ("b", "ACD")]


def test_fasta_is_known_by_its_first_letter_too(write: Write) -> None:
    assert pairs(write("records", FASTA)) == [("a", "MKVLLA"), ("b", "ACD")]


def test_gzip_is_known_by_its_content_not_its_name(write: Write) -> None:
    packed = gzip.compress(FASTA.encode())
    expected = [("a", "MKVLLA"), ("b", "ACD")]
    assert pairs(write("a.fasta.gz", packed)) == expected
    assert pairs(write("b.fasta", packed)) == expected


def test_gzip_members_one_after_another_are_all_read(write: Write) -> None:
    members = gzip.compress(b">a\nMKV\n") + gzip.compress(b">b\nACD\n")
    assert pairs(write("a.fasta.gz", members)) == [("a", "MKV"), ("b", "ACD")]


def test_csv_finds_its_columns_by_their_names(write: Write) -> None:
    assert pairs(write("a.csv", "seq,name\nMKV,x\n")) == [("x", "MKV")]
    assert pairs(write("b.csv", "kind,Protein sequence\nx,MKV\n")) == [("1", "MKV")]
    asked = pairs(write("c.csv", "id,seq,other\nx,MKV,ACD\n"), id_column="seq", sequence_column="other")
    assert asked == [("MKV", "ACD")]


def test_csv_keeps_quoted_commas_and_line_breaks(write: Write) -> None:
    path = write("a.csv", 'id,text\n1,"one, two"\n2,"three\nfour"\n')
    assert pairs(path, alphabet="text") == [("1", "one, two"), ("2", "three\nfour")]


def test_tsv_takes_a_quotation_mark_as_a_letter(write: Write) -> None:
    path = write("a.tsv", 'id\ttext\n1\t5" gun\n2\tbore\n')
    assert pairs(path, alphabet="text") == [("1", '5" gun'), ("2", "bore")]


def test_a_tsv_whose_header_is_quoted_is_read_as_such(write: Write) -> None:
    path = write("a.tsv", '"id"\t"text"\n"1"\t"a\ttab"\n2\t"two ""marks"""\n')
    assert pairs(path, alphabet="text") == [("1", "a\ttab"), ("2", 'two "marks"')]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_a_blank_line_of_a_single_column_is_an_empty_record_and_elsewhere_none(
    write: Write, name: str
) -> None:
    found = read(write(name, "text\none\n\nthree\n"), alphabet="text")
    assert [(record.id, record.problem) for record in found] == [
        ("1", None), ("2", "empty sequence"), ("3", None),
    ]  # fmt: skip
    mark = {"a.csv": ",", "a.tsv": "\t"}[name]
    assert pairs(write(name, f"id{mark}seq\n\nx{mark}MK\n\n")) == [("x", "MK")]


def test_a_header_that_looks_like_values_is_one_where_a_column_of_it_is_asked_for(write: Write) -> None:
    path = write("a.csv", "col1,col2\nx,MKV\n")
    assert pairs(path, sequence_column="col2") == [("1", "MKV")]
    assert pairs(path, sequence_column="col2", id_column="col1") == [("x", "MKV")]


def test_json_lines_hold_one_object_a_line(write: Write) -> None:
    lines = [{"name": "x", "text": "a\u2028b"}, {"name": 7, "text": "c"}]
    content = "\n\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    assert pairs(write("a.jsonl", content), alphabet="text") == [("x", "a\u2028b"), ("7", "c")]


def test_plain_lines_are_named_by_their_number(write: Write) -> None:
    path = write("a.txt", "one\r\ntwo \x0b three\nfour")
    assert pairs(path, alphabet="text") == [("1", "one"), ("2", "two \x0b three"), ("3", "four")]


def test_a_byte_order_mark_is_no_part_of_the_first_column(write: Write) -> None:
    path = write("a.csv", b"\xef\xbb\xbfid,sequence\nx,MKV\n")
    assert pairs(path, id_column="id") == [("x", "MKV")]


# ---- order, identity, counts


def test_ordinals_run_on_over_all_inputs(write: Write) -> None:
    records = read(write("a.fasta", FASTA), write("b.csv", "id,seq\nc,MK\n"))
    assert [(record.ordinal, record.id) for record in records] == [(0, "a"), (1, "b"), (2, "c")]


def test_repeated_ids_and_sequences_are_kept_and_counted(write: Write) -> None:
    path = write("a.fasta", ">a\nMK\n>a\nMKV\n>b\nMK\n>c\nmk\n")
    dataset = Dataset([Input(path, path)], alphabet="protein")
    records, census = list(dataset), Census()
    for record in records:
        census.add(record)
    assert [record.id for record in records] == ["a", "a", "b", "c"]
    counts = census.counts
    assert (counts.num_records, counts.num_duplicate_ids, counts.num_duplicate_sequences) == (4, 1, 2)


def test_the_digest_of_what_was_parsed_is_that_of_the_file(write: Write) -> None:
    paths = [write("a.fasta", FASTA), write("b.fasta.gz", gzip.compress(FASTA.encode()))]
    files = [Input(path, path) for path in paths]
    dataset = Dataset(files, alphabet="protein")
    assert len(list(dataset)) == 4
    assert dataset.inputs == digest_inputs(files)
    assert len({file.digest for file in dataset.inputs}) == 2


# ---- records that cannot be embedded


def test_a_bad_record_keeps_its_place_and_says_why(write: Write) -> None:
    records = read(write("a.fasta", ">a\nMK\n>b\nM4\n>c\n\n>d\nMV\n"))
    assert [record.ordinal for record in records] == [0, 1, 2, 3]
    assert [record.problem is None for record in records] == [True, False, False, True]


# ---- files that are no input


def zipped(text: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.fasta", text)
    return file.getvalue()


def tarred(text: str) -> bytes:
    file, member = io.BytesIO(), tarfile.TarInfo("a.fasta")
    member.size = len(text)
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(member, io.BytesIO(text.encode()))
    return file.getvalue()


OBJECT = '{"id": 1, "seq": "MK"}'
NOT_AN_INPUT = [
    ("a.fasta", "hello\n", "FASTA"),
    ("a.fasta", b">a\nMK\0V\0\n", "line 2: NUL bytes; this is a binary file"),
    ("a.fasta", bytes(range(128, 256)) * 64, "FASTA|binary"),
    ("a.txt", b"caf\xe9\n", "line 1: not UTF-8 text; convert it"),
    ("a.txt", b"ok\n" * 4000 + b"caf\xe9\n" + b"ok\n" * 40_000, "line 4001: not UTF-8"),
    ("a.fasta", b">a\nMK\n>b\n" + bytes(4096) + b"K\n" + b"MK\n" * 900, "line 4: NUL bytes"),
    ("a.csv", "id,sequence\na,MK\n".encode("utf-16"), r"UTF-16; convert it \(iconv"),
    ("a.fasta.zip", zipped(FASTA), "zip archive, .*: unpack it first"),
    ("a.fasta.gz", gzip.compress(tarred(FASTA)), "tar archive, .*: unpack it first"),
    ("a.fasta.gz", gzip.compress(FASTA.encode() * 500, mtime=0)[:-20], "gzip archive is cut off"),
    (
        "a.fasta.gz",
        gzip.compress(FASTA.encode(), mtime=0)[:-8] + b"\0" * 8,
        "gzip archive is cut off or damaged",
    ),
    ("a.csv", "id\nx\n", "no column of sequences"),
    ("a.csv", "id,seq\nx,MKV\ny\n", "line 3: 1 fields"),
    ("a.csv", 'id,seq\nw,MK\nx,"MKV\n' + "y,MK\n" * 300_000, "line 3: not CSV .*quotation marks from here"),
    ("a.csv", "id,seq\n" + "y,MK\n" * 4000 + 'x,"M"K\n' + "y,MK\n" * 300_000, "line 4002: not CSV"),
    ("a.csv", 'id,text\na,"two\nlines"\nb,"x",\n', "line 4: 3 fields"),
    (
        "a.csv",
        "id;seq\nx;MK\n",
        r"no column of sequences .*it has: id;seq; say .*commas separate in CSV, tabs in TSV",
    ),
    ("a.csv", "p1,MKV\np2,MVV\n", "no column of sequences .*it has: p1, MKV"),
    ("a.tsv", "x\tMKVLLAAAGGGE\ny\tMK\n", "no column of sequences .*it has: x, MKV"),
    ("a.csv", "sep=,\nid,seq\nx,MK\n", "no column of sequences .*it has: sep="),
    ("a.csv", "good,I loved it.\nbad,Not me.\n", "no column of sequences .*it has: good, I loved"),
    ("a.csv", "id,seq\n", "no records"),
    ("a.jsonl", '{"id": 1, "seq": "MK"}\n{"id": 2\n', "line 2: not JSON"),
    ("a.jsonl", "[" * 100_000, "line 1: not JSON"),
    ("a.jsonl", "1\n", "line 1: not a JSON object"),
    ("a.jsonl", '{"id": 1, "seq": "MK", "id": 2}', "line 1: .*a key stands there twice"),
    ("a.jsonl", f'{OBJECT}\n{{"id": 2, "text": "x"}}\n', "line 2: its sequence would come from 'text'"),
    ("a.jsonl", f'{OBJECT}\n{{"name": "x", "seq": "M"}}\n', "line 2: its id would come from 'name'"),
    ("a.xyz", "id seq\n", "neither its name nor its first letter"),
    ("a.fasta", "", "empty file"),
]


@pytest.mark.parametrize(("name", "content", "message"), NOT_AN_INPUT)
def test_a_file_that_is_no_input_is_refused_by_name(
    write: Write, name: str, content: str | bytes, message: str
) -> None:
    path = write(name, content)
    with pytest.raises(InputError, match=message) as refused:
        read(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_line_that_is_wrong_is_named(write: Write) -> None:
    with pytest.raises(InputError, match="line 4"):
        read(write("a.csv", "id,seq\na,MK\nb,MV\nc\n"))


def test_a_missing_column_names_those_that_are_there(write: Write) -> None:
    with pytest.raises(InputError, match=r"no column 'residues'; it has: id, seq"):
        read(write("a.csv", "id,seq\na,MK\n"), sequence_column="residues")


def test_an_absurd_line_is_refused_before_it_fills_the_memory(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LINE_BYTES_LEAST", 1 << 20)
    bomb = gzip.compress(b">a\n" + b"A" * (8 << 20))
    with pytest.raises(InputError, match="line 2 is longer than 1 MiB"):
        read(write("a.fasta.gz", bomb), limits=Limits(record=1))
