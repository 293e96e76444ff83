"""The input formats: each a generator of (id, sequence) over one source, in the file's order."""

import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import dnaio

from queue_app.errors import InputError
from queue_app.sources import Source, open_source

ID_COLUMNS = ("id", "name")
SEQUENCE_COLUMNS = ("sequence", "seq", "text")
FIELD_CHARACTERS_MOST = 1 << 30
_UNWRITABLE = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns were asked for; None takes the default."""

    id: str | None = None
    sequence: str | None = None


class _Fasta(NamedTuple):
    """What dnaio makes of a record; its own class would refuse a name that is not ASCII."""

    name: str
    sequence: str
    qualities: None


Pairs = Iterator[tuple[str, str]]
Reader = Callable[[Source, Columns], Pairs]


def read_fasta(source: Source, columns: Columns) -> Pairs:
    """The id is the header up to the first blank, as in extract.py and Biopython."""
    for record in dnaio.FastaReader(source.binary, sequence_class=_Fasta):
        words = record.name.split(None, 1)
        yield (words[0] if words else ""), record.sequence


def read_csv(source: Source, columns: Columns) -> Pairs:
    """Strict: a stray quotation mark would otherwise swallow every record to the end of the file."""
    return _read_table(source, columns, csv.reader(source.text(newline=""), strict=True))


def read_tsv(source: Source, columns: Columns) -> Pairs:
    """Tabs separate, and a quotation mark is a letter like any other."""
    reader = csv.reader(source.text(newline=""), delimiter="\t", quoting=csv.QUOTE_NONE)
    return _read_table(source, columns, reader)


def _read_table(source: Source, columns: Columns, rows: "csv._reader") -> Pairs:  # type: ignore[name-defined]
    csv.field_size_limit(FIELD_CHARACTERS_MOST)
    header = next(rows, None) or []
    id_at, sequence_at = _places(source.path, header, columns)
    for row in rows:
        if not row:
            continue
        if len(row) != len(header):
            raise InputError(
                f"{source.path}: line {rows.line_num}: {len(row)} fields, but the header has {len(header)}"
            )
        yield row[id_at], row[sequence_at]


def _places(path: Path, header: Sequence[str], columns: Columns) -> tuple[int, int]:
    names = [name.strip() for name in header]
    id_at = _place(path, names, columns.id, ID_COLUMNS, 0)
    return id_at, _place(path, names, columns.sequence, SEQUENCE_COLUMNS, 1)


def _place(path: Path, names: Sequence[str], asked: str | None, usual: Sequence[str], otherwise: int) -> int:
    if asked is not None:
        if asked not in names:
            raise InputError(f"{path}: no column {asked!r}; it has: {', '.join(names)}")
        return names.index(asked)
    lower = [name.lower() for name in names]
    found = [lower.index(name) for name in usual if name in lower]
    if not found and len(names) <= otherwise:
        raise InputError(f"{path}: no column of sequences; it has: {', '.join(names) or 'nothing'}")
    return found[0] if found else otherwise


def read_json_lines(source: Source, columns: Columns) -> Pairs:
    for number, line in enumerate(source.text(), start=1):
        if line.strip():
            yield _json_pair(f"{source.path}: line {number}", source.path, line, columns)


def _json_pair(where: str, path: Path, line: str, columns: Columns) -> tuple[str, str]:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise InputError(f"{where}: not a JSON object")
    try:
        names = list(fields)
        id_at, sequence_at = _places(path, names, columns)
    except InputError as error:
        raise InputError(f"{where}: {str(error).removeprefix(f'{path}: ')}") from None
    record_id, sequence = fields[names[id_at]], fields[names[sequence_at]]
    if not isinstance(sequence, str):
        raise InputError(f"{where}: {names[sequence_at]!r} is not a string")
    return _plain(where, str(record_id)), _plain(where, sequence)


def _plain(where: str, text: str) -> str:
    """JSON can spell what no text file can hold, and no output either."""
    if _UNWRITABLE.search(text):
        raise InputError(f"{where}: a NUL character or half of a surrogate pair in a string")
    return text


def read_lines(source: Source, columns: Columns) -> Pairs:
    """One text a line; its id is the line's number."""
    for number, line in enumerate(source.text(), start=1):
        yield str(number), line.rstrip("\r\n")


READERS: dict[str, Reader] = {
    **dict.fromkeys((".fa", ".fasta", ".faa", ".fna", ".ffn", ".fas"), read_fasta),
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".txt": read_lines,
}


def reader_of(path: Path) -> Reader:
    """By the name's ending, with or without .gz; else by the first letter.

    Raises:
        InputError: neither says what it is.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    if suffixes and suffixes[-1] in READERS:
        return READERS[suffixes[-1]]
    with open_source(path) as source:
        if source.binary.peek(1)[:1] == b">":
            return read_fasta
    raise InputError(
        f"{path}: not FASTA, and its name says no other format; known: {', '.join(READERS)}, each also .gz"
    )
