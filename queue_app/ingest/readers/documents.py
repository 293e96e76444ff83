"""What is not read, told by what it begins with, and the line that makes FASTA or a table of it.

Nothing here reads a document itself: what a spreadsheet shows and what it holds may be two things.
"""

from collections.abc import Mapping
from pathlib import Path

from queue_app.ingest.readers.compression import ENDINGS

ZIP_MAGIC = b"PK\x03\x04"
OLE_MAGIC = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
"""Of what Office wrote before 2007."""
_SHEETS: Mapping[bytes, tuple[str, str]] = {
    b"xl/workbook.xml": (".xlsx", "openpyxl"),
    b"xl/workbook.bin": (".xlsb", "pyxlsb"),
    b"mimetypeapplication/vnd.oasis.opendocument.spreadsheet": (".ods", "odfpy"),
}
"""By the name of a member, or by the whole first one, which OpenDocument leaves unpacked."""
NAMES_BYTES = 256 << 10
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
    names = _names(path)
    for member, (ending, engine) in _SHEETS.items():
        if member in names:
            return _spreadsheet(title, ending, engine)
    if b"word/document.xml" in names or b"mimetypeapplication/vnd.oasis.opendocument.text" in names:
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


def _names(path: Path) -> bytes:
    """Where a zip archive has the names of its members: at its begin, and all of them at its end.

    They are looked for and not parsed: an archive that is none, or a bomb, is as well told as any.
    """
    with path.open("rb") as file:
        head = file.read(NAMES_BYTES)
        file.seek(max(path.stat().st_size - NAMES_BYTES, 0))
        return head + file.read()


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
