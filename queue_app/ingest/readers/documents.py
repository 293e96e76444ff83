"""What is not read, told by what it begins with, and the line that makes FASTA or a table of it.

Nothing here reads a document itself: what a spreadsheet shows and what it holds may be two things.
"""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

from queue_app.ingest.readers.compression import ENDINGS

ZIP_MAGIC = b"PK\x03\x04"
OLE_MAGIC = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
"""Of what Office wrote before 2007."""
_SHEETS: Mapping[str, tuple[str, str]] = {
    "xl/workbook.xml": (".xlsx", "openpyxl"),
    "xl/workbook.bin": (".xlsb", "pyxlsb"),
}
_ODF = "application/vnd.oasis.opendocument."
_TEXTS: Mapping[str, tuple[str, str | None]] = {
    "LOCUS   ": ("GenBank", "genbank"), "CLUSTAL": ("Clustal", "clustal"),
    "# STOCKHOLM": ("Stockholm", "stockholm"), "#NEXUS": ("NEXUS", "nexus"),
    "HEADER    ": ("PDB", "pdb-seqres"), "data_": ("mmCIF", "cif-seqres"),
    "ID   ": ("UniProt's text", "swiss"),
    "##fileformat=VCF": ("VCF", None), "@HD\t": ("SAM", None), "@SQ\t": ("SAM", None), "<?xml": ("XML", None),
    "<!DOCTYPE": ("HTML", None), "<html": ("HTML", None),
}  # fmt: skip
"""Formats of sequences and of documents that are text, and what Biopython calls them."""


def unread_document(path: Path, title: str, magic: bytes) -> str | None:
    """What a file is that begins as a zip archive or an old document of Office does; None for all others."""
    if magic.startswith(OLE_MAGIC):
        return _word() if title.lower().endswith(".doc") else _spreadsheet(title, ".xls", "xlrd")
    if not magic.startswith(ZIP_MAGIC):
        return None
    members, kind = _members(path)
    for member, (ending, engine) in _SHEETS.items():
        if member in members:
            return _spreadsheet(title, ending, engine)
    if kind == f"{_ODF}spreadsheet":
        return _spreadsheet(title, ".ods", "odfpy")
    if "word/document.xml" in members or kind == f"{_ODF}text":
        return _word()
    return "a zip archive, which is not read: unpack it first"


def unread_text(title: str, first_line: str) -> str | None:
    """What a text is, by its first line, where it is of a format that is not read."""
    for start, (name, in_biopython) in _TEXTS.items():
        if first_line.startswith(start):
            if start == "ID   " and first_line.rstrip().endswith(" BP."):
                name, in_biopython = "EMBL", "embl"
            begins = f"it begins as {name} does, which is not read: "
            return begins + (
                _by_biopython(title, in_biopython) if in_biopython else "make FASTA or a table of it"
            )
    return None


def _members(path: Path) -> tuple[set[str], str]:
    """The names of what a zip archive holds, and what a document of OpenDocument says that it is."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = set(archive.namelist())
            kind = archive.read("mimetype").decode("ascii", "replace") if "mimetype" in members else ""
            return members, kind.strip()
    except (zipfile.BadZipFile, NotImplementedError, io.UnsupportedOperation, RuntimeError):
        return (
            set(),
            "",
        )  # cut off, packed in a way that Python cannot, or encrypted: no document that we name


def _spreadsheet(title: str, ending: str, engine: str) -> str:
    name = title if title.lower().endswith(ending) else f"table{ending}"
    target = f"{name[: -len(ending)]}.csv"
    line = f"import pandas; pandas.read_excel({name!r}, dtype=str).to_csv({target!r}, index=False)"
    how = f'python -c "{line}" makes a CSV of it (pip install pandas {engine})'
    return f"a spreadsheet, which is not read: {how}"


def _word() -> str:
    return "a document of text with its layout, which is not read: save it as plain text, one text a line"


def _by_biopython(title: str, kind: str) -> str:
    archive = next((ending for ending in ENDINGS if title.lower().endswith(ending)), "")
    name = title.removesuffix(archive)
    line = (
        f"from Bio import SeqIO; SeqIO.convert({name!r}, {kind!r}, {Path(name).stem + '.fasta'!r}, 'fasta')"
    )
    unpack = "unpack it; then " if archive else ""
    return f'{unpack}python -c "{line}" makes FASTA of it (pip install biopython)'
