"""What a file begins with, which says more of its format than the ending of its name.

What contradicts the name is read as what it is where that is certain, and refused where it is not.
"""

import csv
import json
import re
from collections.abc import Mapping, Sequence

from queue_app.choices import InputFormat
from queue_app.ingest.readers.columnar.magics import ARROW_FILE_MAGIC, ARROW_STREAM_MAGIC, PARQUET_MAGIC
from queue_app.ingest.readers.columns import known_id, known_sequences
from queue_app.ingest.readers.documents import unread_text
from queue_app.ingest.readers.sources import Source
from queue_app.ingest.readers.values import shown

HEAD_BYTES = 64 << 10
LINES_COMPARED = 50
_MAGICS: Mapping[bytes, InputFormat] = {
    PARQUET_MAGIC: "parquet", ARROW_FILE_MAGIC: "arrow", ARROW_STREAM_MAGIC: "arrow"
}  # fmt: skip
_FIRST_LETTERS: Mapping[str, InputFormat] = {">": "fasta", "@": "fastq", "{": "json", "[": "json"}
_BEFORE_FIRST_LETTER = "\ufeff \t\r\n"
_COMMENTS = ("#", ";")
_JSON = re.compile(r'\{\s*("|$)|\[\s*(["{]|$)')
_LINE_END = re.compile(r"\r\n?|\n")
_COLUMN_NAME = re.compile(r"[A-Za-z_][\w .()/#%-]{0,40}")
"""What a header may call a column. A sentence has a blank behind its comma."""
SEPARATORS: Mapping[str, str] = {
    "\t": "tsv", ",": "csv", ";": "csv --delimiter ';'", "|": "csv --delimiter '|'",
    " ": "csv --delimiter ' '",
}  # fmt: skip
"""What is to be said of a table of lines whose fields they separate."""


class Head:
    """The first lines of a text, as many as are whole, and what they say."""

    def __init__(self, source: Source) -> None:
        self._name = source.name
        data = source.head(HEAD_BYTES)
        text = data.decode(errors="replace").lstrip(_BEFORE_FIRST_LETTER)
        lines = _LINE_END.split(text)
        self.lines = lines if len(data) < HEAD_BYTES or len(lines) == 1 else lines[:-1]

    @property
    def by_first_letter(self) -> InputFormat | None:
        found = _FIRST_LETTERS.get(self.lines[0][:1])
        return "jsonl" if found == "json" and self.is_json_lines else found

    @property
    def is_fastq(self) -> bool:
        """No other text begins so: four lines, the last as long as the second."""
        if len(self.lines) < 4:
            return False
        header, letters, plus, qualities = (line.rstrip() for line in self.lines[:4])
        return header.startswith("@") and plus in ("+", f"+{header[1:]}") and len(letters) == len(qualities)

    @property
    def begins_json_array(self) -> bool:
        return self.lines[0][:1] == "["

    @property
    def is_json_lines(self) -> bool:
        """The first line is an object by itself: a record, where its keys say so or others follow."""
        try:
            first = json.loads(self.lines[0])
        except (ValueError, RecursionError):
            return False
        if not isinstance(first, dict):
            return False
        names, values = list(first), list(first.values())
        is_record = any(isinstance(values[place], str) for place in known_sequences(names))
        return is_record or any(map(str.strip, self.lines[1:]))

    def unread(self) -> str | None:
        """What it is, where it is of a format that is not read; with the remedy."""
        return unread_text(self._name, self.lines[0])

    def why_no_lines(self) -> str | None:
        """What these lines are if they are no texts, one a line, as their name says; with the remedy."""
        if what := self.unread():
            return what
        if _JSON.match(self.lines[0]):
            return "it begins as JSON does: say --input-format json"
        after_comments = [line for line in self.lines if line.strip() and not line.startswith(_COMMENTS)]
        if after_comments and after_comments[0].startswith(">"):
            return "it begins as FASTA does, behind comments: say --input-format fasta"
        if known_sequences([self.lines[0].strip(' "')]):
            return f"its first line, {shown(self.lines[0].strip())}, names a column: say --input-format csv"
        separator = _separator(self.lines)
        if separator is not None:
            return f"it looks like a table: say --input-format {SEPARATORS[separator]}"
        return None


def binary_format(source: Source, by_name: InputFormat | None) -> InputFormat | None:
    """Parquet or Arrow by the first bytes; a text may begin with their letters, but holds no zeros."""
    found = next((name for magic, name in _MAGICS.items() if source.magic.startswith(magic)), None)
    if found and by_name not in (None, "parquet", "arrow") and b"\0" not in source.raw_head(HEAD_BYTES):
        return None
    return found


def _separator(lines: Sequence[str]) -> str | None:
    """What separates the fields of every line, and in the first one names of columns."""
    rows = [line for line in lines if line.strip()][:LINES_COMPARED]
    for separator in SEPARATORS:
        names = [name.strip('"') for name in rows[0].split(separator)] if rows else []
        if len(names) > 1 and _is_header(names, rows, separator):
            return separator
    return None


def _is_header(names: Sequence[str], rows: Sequence[str], separator: str) -> bool:
    """Tabs and names of columns are sure signs; blanks, commas and the like may be those of a sentence."""
    if separator != " " and known_sequences(names):
        return True
    if {len(row) for row in csv.reader(rows, delimiter=separator)} != {len(names)}:
        return False
    if separator == " ":
        return bool(known_sequences(names)) and known_id(names) is not None
    return separator == "\t" or (len(rows) > 1 and all(map(_COLUMN_NAME.fullmatch, names)))
