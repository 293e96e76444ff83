"""Spreadsheets and other programs' formats: refused with the line that makes a table or FASTA of them."""

import io
import zipfile
from pathlib import Path

import pytest

from queue_app.errors import InputError
from queue_app.ingest.gather import gather
from queue_app.ingest.readers.sources import Input
from queue_app.ingest.records import Dataset


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as refused:
        list(Dataset([Input(path, path)], alphabet="text"))
    assert str(refused.value).startswith(f"{path}: ")
    assert "\n" not in str(refused.value)
    return str(refused.value)


def archive(**members: str) -> bytes:
    with zipfile.ZipFile(file := io.BytesIO(), "w") as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return file.getvalue()


XLSX = archive(**{"[Content_Types].xml": "", "xl/workbook.xml": "", "xl/worksheets/sheet1.xml": ""})
ODS = archive(mimetype="application/vnd.oasis.opendocument.spreadsheet", **{"content.xml": ""})
SHEETS = {
    "a.xlsx": (XLSX, "a.xlsx", "openpyxl"),
    "a.csv": (XLSX, "table.xlsx", "openpyxl"),
    "a": (XLSX, "table.xlsx", "openpyxl"),
    "a.ods": (ODS, "a.ods", "odfpy"),
    "a.xlsb": (archive(**{"xl/workbook.bin": ""}), "a.xlsb", "pyxlsb"),
    "a.xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 512, "a.xls", "xlrd"),
}


@pytest.mark.parametrize("name", SHEETS)
def test_a_spreadsheet_is_refused_with_the_line_to_convert_it(tmp_path: Path, name: str) -> None:
    content, named, engine = SHEETS[name]
    (path := tmp_path / name).write_bytes(content)
    said = refusal(path)
    shown = str(tmp_path / named) if named == name else named
    target = str(Path(shown).with_suffix(".csv"))
    assert (
        f'a spreadsheet, which is not read: python -c "import pandas; pandas.read_excel({shown!r}, dtype=str)'
        in said
    )
    assert f'.to_csv({target!r}, index=False)" makes a CSV of it (pip install pandas {engine})' in said


def test_documents_and_other_archives_are_told_from_spreadsheets(tmp_path: Path) -> None:
    for name, content, what in (
        ("a.docx", archive(**{"word/document.xml": ""}), "a document of text"),
        ("a.odt", archive(mimetype="application/vnd.oasis.opendocument.text"), "a document of text"),
        ("a.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 512, "a document of text"),
        ("a.zip", archive(**{"a.fasta": ">a\nMK\n"}), "a zip archive, which is not read: unpack it first"),
        ("b.zip", XLSX[:40], "a zip archive"),
    ):
        (path := tmp_path / name).write_bytes(content)
        assert f": {what}" in refusal(path)


TEXTS = {
    "a.gb": ("LOCUS       SCU49845     5028 bp    DNA\n", "genbank"),
    "a.gbk": ("LOCUS       SCU49845     5028 bp    DNA\n", "genbank"),
    "a.embl": ("ID   X56734; SV 1; linear; mRNA; STD; PLN; 1859 BP.\n", "embl"),
    "a.dat": ("ID   CRAB_ANAPL              Reviewed;         174 AA.\n", "swiss"),
    "a.sto": ("# STOCKHOLM 1.0\nsp|P1 MKV\n//\n", "stockholm"),
    "a.aln": ("CLUSTAL W (1.83) multiple sequence alignment\n", "clustal"),
    "a.pdb": ("HEADER    OXYGEN TRANSPORT\n", "pdb-seqres"),
    "a.cif": ("data_1ABC\n#\n", "cif-seqres"),
    "a.txt": ("LOCUS       SCU49845     5028 bp    DNA\n", "genbank"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_format_of_sequences_that_is_not_read_names_the_line_that_converts_it(
    tmp_path: Path, name: str
) -> None:
    content, kind = TEXTS[name]
    (path := tmp_path / name).write_text(content)
    assert f"SeqIO.convert({str(path)!r}, {kind!r}, 'a.fasta', 'fasta')" in refusal(path)


def test_a_directory_with_a_spreadsheet_alone_has_no_inputs(tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").write_bytes(XLSX)
    with (
        pytest.raises(InputError, match="without a file whose name says a format"),
        gather([tmp_path], tmp_path / "p"),
    ):
        pass
