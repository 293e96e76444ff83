"""Every format holds the same records; what is no such file, or a part of one, is refused by name."""

import itertools
import os
import random
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queue_app.choices import InputFormat
from queue_app.errors import InputError
from queue_app.ingest.readers.formats import FORMATS, format_of
from queue_app.ingest.readers.sources import Input, digest_inputs
from queue_app.ingest.records import Dataset
from tests.support.input_files import COLUMNAR, EVERY_KIND, TEXTS, arrow_bytes, contents
from tests.support.jobs_and_inputs import protein

RECORDS = [(f"p{number}", protein(number)) for number in range(40)]


def inputs(*paths: Path) -> list[Input]:
    return [Input(path, path) for path in paths]


def read(path: Path, input_format: InputFormat | None = None, **columns: str) -> list[tuple[str, str]]:
    dataset = Dataset(inputs(path), alphabet="text", input_format=input_format, **columns)  # type: ignore[arg-type]
    records = [(record.id, record.sequence) for record in dataset]
    assert dataset.inputs == digest_inputs(inputs(path))
    return records


def named_by_number(records: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(str(number), text) for number, (_, text) in enumerate(records, start=1)]


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_every_format_gives_the_same_records(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"records{kind}"
    path.write_bytes(contents(kind, RECORDS))
    assert read(path) == (named_by_number(RECORDS) if kind.startswith(".txt") else RECORDS)


@pytest.mark.parametrize(
    "kind", [kind for kind in EVERY_KIND if not kind.startswith((".csv", ".tsv", ".txt"))]
)
def test_what_begins_like_no_other_needs_no_name(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "records"
    path.write_bytes(contents(kind, RECORDS))
    assert read(path) == RECORDS


@pytest.mark.parametrize("kind", [".csv", ".tsv", ".txt.gz"])
def test_what_might_be_several_formats_is_not_guessed(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "records"
    path.write_bytes(contents(kind, RECORDS))
    with pytest.raises(InputError, match=r"neither its name nor its first letter .* --input-format fasta\|"):
        read(path)
    asked: InputFormat = {".csv": "csv", ".tsv": "tsv", ".txt.gz": "lines"}[kind]  # type: ignore[assignment]
    assert len(read(path, asked)) == len(RECORDS)


def test_what_was_asked_for_counts_more_than_the_name(tmp_path: Path) -> None:
    path = tmp_path / "records.csv"
    path.write_bytes(contents(".tsv", RECORDS))
    assert read(path, "tsv") == RECORDS


IDS = ["sp|P12345|A/B.C", "tab\tand blank", "Größe-β-東京-🧬", "a,b;'c'", "x" * 300]


@pytest.mark.parametrize("kind", [".csv", ".jsonl", *COLUMNAR])
def test_formats_that_can_carry_any_id_do(tmp_path: Path, kind: str) -> None:
    records = [(each, "MKV") for each in [*IDS, 'a "quoted" id', "two\nlines"]]
    (path := tmp_path / f"records{kind}").write_bytes(contents(kind, records))
    assert read(path) == records


@pytest.mark.parametrize("kind", [".fasta", ".fastq"])
def test_an_id_in_a_header_ends_at_the_first_blank(tmp_path: Path, kind: str) -> None:
    records = [(each, "MKV") for each in IDS]
    (path := tmp_path / f"records{kind}").write_bytes(contents(kind, records))
    assert [name for name, _ in read(path)] == [each.split()[0] for each in IDS]


@settings(max_examples=25)
@given(st.lists(st.tuples(st.text("aé/🧬", min_size=1), st.text("ACDEFGHIKL", min_size=1)), min_size=1))
def test_whatever_was_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, written: list[tuple[str, str]]
) -> None:
    home = tmp_path_factory.mktemp("round")
    for kind in (*TEXTS, *COLUMNAR):
        if kind != ".txt":
            (home / f"a{kind}").write_bytes(contents(kind, written))
            assert read(home / f"a{kind}") == written


# ---- FASTA and FASTQ


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_lines_end_as_on_any_system(tmp_path: Path, newline: str) -> None:
    for kind in (".fasta", ".fastq"):
        text = contents(kind, RECORDS).decode().replace("\n", newline)
        (path := tmp_path / f"a{kind}").write_bytes(text.encode())
        assert read(path) == RECORDS


def test_fasta_may_hold_blank_lines_comments_and_a_byte_order_mark(tmp_path: Path) -> None:
    (path := tmp_path / "a").write_text("\ufeff\n;old\n>a x\n\nMK\n#new\nV\n>\n\n> b\nL\n", encoding="utf-8")
    assert read(path, "fasta") == [("a", "MKV"), ("", ""), ("b", "L")]
    assert format_of(Input(path, tmp_path / "b.fa.zst")) == "fasta"


READ_IN_ASCII = """
import sys
from pathlib import Path
from queue_app.ingest.records import Dataset
from queue_app.ingest.readers.sources import Input, digest_inputs
path = Path(sys.argv[1])
(record,) = Dataset([Input(path, path)], alphabet="protein")
print(ascii(record.id))
"""


def test_ids_are_utf_8_whatever_the_locale_says(tmp_path: Path) -> None:
    (path := tmp_path / "a.fasta").write_bytes(">größe\nMK\n".encode())
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ended = subprocess.run(
        [sys.executable, "-c", READ_IN_ASCII, path],
        capture_output=True, text=True, env={**os.environ, **ascii_only}, timeout=60,
    )  # fmt: skip
    assert ended.stdout.strip() == ascii("größe"), ended.stderr


BAD_RECORDS = [
    ("@a\nAC\n+\nII\n@b\nAC\n+\n", "line 5: cut off: the last record has less than four lines"),
    ("@a\nAC\n+\nI\n", "line 1: a record of 2 letters and 1 qualities"),
    ("@a\nAC\nGT\n+\nIIII\n", "line 3: not FASTQ, four lines a record: the third is a +, here stands 'GT'"),
    ("@a\nAC\n+b\nII\n", "line 3: not FASTQ, four lines a record: the third"),
    ("\n@a\nAC\n+\nII\n\nAC\n", "line 7: not FASTQ: a record begins with @, here stands 'AC'"),
    (">a\nMK\n", "line 1: not FASTQ"),
]


@pytest.mark.parametrize(("text", "message"), BAD_RECORDS)
def test_a_fastq_record_that_is_none_is_named_by_its_line(tmp_path: Path, text: str, message: str) -> None:
    (path := tmp_path / "a.fastq").write_text(text)
    with pytest.raises(InputError) as refused:
        read(path)
    assert str(refused.value).startswith(f"{path}: {message}")


# ---- columns


def parquet(path: Path, **columns: object) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


TEXT_TYPES = [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary()]


@pytest.mark.parametrize("kind", [*TEXT_TYPES, pa.dictionary(pa.int32(), pa.string())], ids=str)
def test_text_of_any_type_is_read(tmp_path: Path, kind: pa.DataType) -> None:
    ids, texts = pa.array(["é", None, "b"]).cast(kind), pa.array(["MKV", "L", None]).cast(kind)
    expected = [("é", "MKV"), ("", "L"), ("b", "")]
    table = pa.table({"id": ids, "seq": texts})
    with pa.ipc.new_stream(tmp_path / "a.arrows", table.schema) as writer:
        writer.write_table(table)
    assert read(tmp_path / "a.arrows") == expected
    feather.write_feather(table, tmp_path / "a.feather")
    assert read(tmp_path / "a.feather") == expected
    if kind != pa.string_view():
        pq.write_table(table, tmp_path / "a.parquet")
        assert read(tmp_path / "a.parquet") == expected


def test_a_table_of_sequences_and_their_vectors_is_read_and_an_output_is_none(tmp_path: Path) -> None:
    vectors = pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32(), 2))
    table = pa.table({"id": ["a", "b"], "embedding": vectors, "sequence": ["MKV", "GLS"]})
    feather.write_feather(table, tmp_path / "a.arrow", compression="uncompressed")
    assert read(tmp_path / "a.arrow") == [("a", "MKV"), ("b", "GLS")]
    feather.write_feather(table.drop_columns("sequence"), tmp_path / "out.arrow")
    with pytest.raises(InputError, match=r"no column of sequences .*it has: id, embedding"):
        read(tmp_path / "out.arrow")
    with pytest.raises(InputError, match=r"column 'embedding' holds fixed_size_list.*, and no text"):
        read(tmp_path / "out.arrow", sequence_column="embedding")


@pytest.mark.parametrize("kind", [pa.string_view(), pa.binary_view()], ids=str)
def test_categories_are_read_as_polars_writes_them(tmp_path: Path, kind: pa.DataType) -> None:
    names = pa.array(["é", "b"], pa.string()).cast(kind)
    ids = pa.DictionaryArray.from_arrays(pa.array([1, None, 0], pa.uint32()), names)
    table = pa.table({"id": ids, "sequence": ["MK", "ML", "MV"]})
    (path := tmp_path / "a.arrow").write_bytes(arrow_bytes(table, pa.ipc.new_file))
    assert read(path) == [("b", "MK"), ("", "ML"), ("é", "MV")]


def test_whole_numbers_may_be_ids_and_other_types_are_refused(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", id=[7, None], text=["a", "b"])
    assert read(path) == [("7", "a"), ("", "b")]
    for column, values in (
        ("id", [0.5, 1.5]),
        ("text", [1, 2]),
        ("text", [["a"]] * 2),
        ("id", [{"x": 1}] * 2),
    ):
        path = parquet(tmp_path / "b.parquet", **{"id": ["a", "b"], "text": ["c", "d"], column: values})
        with pytest.raises(InputError, match=f"column '{column}' holds .*, and no text"):
            read(path)


LABELLED = {
    "a.csv": b"text,label\na,x\nb,y\n",
    "a.tsv": b"text\tlabel\na\tx\nb\ty\n",
    "a.jsonl": b'{"text": "a", "label": "x"}\n\n{"text": "b", "label": "y"}\n',
    "a.arrows": arrow_bytes(pa.table({"text": ["a", "b"], "label": ["x", "y"]}), pa.ipc.new_stream),
}


@pytest.mark.parametrize("name", LABELLED)
def test_a_table_of_sequences_and_labels_numbers_its_records(tmp_path: Path, name: str) -> None:
    """The first column would be an id that is the sequence."""
    (tmp_path / name).write_bytes(LABELLED[name])
    assert read(tmp_path / name) == [("1", "a"), ("2", "b")]


def test_columns_are_asked_for_by_name_in_every_table(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", x=["1"], y=["2"], z=["3"])
    with pytest.raises(InputError, match=r"no column of sequences .*it has: x, y, z; say with --sequence"):
        read(path)
    assert read(path, id_column="z", sequence_column="x") == [("3", "1")]
    with pytest.raises(InputError, match="no column 'w'; it has: x, y, z"):
        read(path, sequence_column="w")
    twice = pa.Table.from_arrays([pa.array(["a"])] * 3, ["id", "seq", "seq"])
    pq.write_table(twice, path)
    with pytest.raises(InputError, match="two columns 'seq'"):
        read(path)


def test_json_ids_are_strings_or_whole_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": null, "seq": null}\n{"id": 7, "seq": "MK"}\n')
    assert read(path) == [("", ""), ("7", "MK")]
    for bad in ("1.0", "true", "[1]", '{"a": 1}'):
        path.write_text(f'{{"id": {bad}, "seq": "MK"}}\n')
        (record,) = Dataset(inputs(path), alphabet="text")
        assert record.problem is not None
        assert record.problem.startswith("an id that is neither a string nor a whole number, but ")
        assert record.problem.endswith(" (line 1)")


# ---- what is not whole, or nothing of the kind


def refused_or_read(path: Path, name: InputFormat | None = None) -> tuple[str, list[tuple[str, str]]]:
    try:
        return "", read(path, name)
    except InputError as error:
        return str(error), []


@pytest.mark.parametrize("kind", COLUMNAR)
def test_a_columnar_file_that_is_cut_off_anywhere_is_refused(tmp_path: Path, kind: str) -> None:
    data, path = contents(kind, RECORDS), tmp_path / f"a{kind}"
    for length in {*range(1, len(data), 211), *range(len(data) - 20, len(data))}:
        path.write_bytes(data[:length])
        with pytest.raises(InputError) as refused:
            read(path)
        assert str(refused.value).startswith(f"{path}: ")
        assert "\n" not in str(refused.value)


def test_an_arrow_stream_that_ends_between_two_batches_is_refused(tmp_path: Path) -> None:
    """As a reader of Arrow takes it, such a stream is whole."""
    data, path = contents(".arrows", RECORDS), tmp_path / "a.arrows"
    path.write_bytes(data[:-8])
    with pa.ipc.open_stream(path) as reader:
        assert reader.read_all().num_rows == len(RECORDS)
    with pytest.raises(InputError, match="cut off: its end is missing"):
        read(path)


@pytest.mark.parametrize("kind", COLUMNAR)
def test_joined_columnar_files_are_refused(tmp_path: Path, kind: str) -> None:
    (path := tmp_path / f"a{kind}").write_bytes(contents(kind, RECORDS) + contents(kind, RECORDS[:5]))
    with pytest.raises(InputError, match="files joined to one"):
        read(path)


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_a_damaged_file_is_refused_or_whole_but_never_shorter(tmp_path: Path, kind: str) -> None:
    """Where nothing is checked, as in a plain text, a letter may be another; no record may be missing."""
    data, path, chance = contents(kind, RECORDS), tmp_path / f"a{kind}", random.Random(kind)
    is_checked = kind.endswith((".gz", ".bz2", ".xz", ".zst")) or kind in COLUMNAR
    for _ in range(60 if is_checked else 0):
        damaged = bytearray(data)
        for _ in range(chance.choice((1, 4))):
            damaged[chance.randrange(len(data))] = chance.randrange(256)
        path.write_bytes(damaged)
        refusal, records = refused_or_read(path)
        assert "\n" not in refusal
        assert refusal or len(records) == len(RECORDS)


MAGICS = (b"", b"@", b"PAR1", b"ARROW1\0\0", b"\xff" * 4, b"BZh9", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")


@settings(max_examples=10)
@given(garbage=st.binary(min_size=1, max_size=200))
def test_garbage_is_refused_in_one_line_or_read_as_text(
    tmp_path_factory: pytest.TempPathFactory, garbage: bytes
) -> None:
    path = tmp_path_factory.mktemp("garbage") / "a"
    for name, magic in itertools.product(FORMATS, MAGICS):
        path.write_bytes(magic + garbage)
        refusal, records = refused_or_read(path, name)
        assert records or refusal.startswith(f"{path}: ")
        assert "\n" not in refusal


def test_a_packed_parquet_file_is_said_to_be_that(tmp_path: Path) -> None:
    (path := tmp_path / "a.parquet.gz").write_bytes(contents(".txt.gz", RECORDS))
    with pytest.raises(InputError, match="not a Parquet file; unpack one that was compressed as a whole"):
        read(path)


def test_a_table_is_never_in_memory_whole(tmp_path: Path) -> None:
    """16 MB of text in one row group: not half of it is held at a time."""
    texts = [f"{number:08}" * 100 for number in range(20_000)]
    path = parquet(tmp_path / "a.parquet", id=list(map(str, range(20_000))), text=texts)
    before = pa.total_allocated_bytes()
    dataset = Dataset(inputs(path), alphabet="text")
    most = max(pa.total_allocated_bytes() - before for record in dataset if record.ordinal % 1000 == 0)
    assert most < 8 << 20


def test_every_format_has_its_endings_and_a_title() -> None:
    endings = [ending for form in FORMATS.values() for ending in form.endings]
    assert len(endings) == len(set(endings))
    assert {*TEXTS, *COLUMNAR} <= set(endings)
