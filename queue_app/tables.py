"""Tables of text: CSV, TSV and JSON lines; and the rule by which the columns of any table are chosen."""

import csv
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from queue_app.errors import InputError
from queue_app.sources import Pairs, Source

ID_COLUMNS = ("id", "name")
SEQUENCE_COLUMNS = ("sequence", "seq", "text")
FIELD_CHARACTERS_MOST = 1 << 30
_UNWRITABLE = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns were asked for; None takes the default."""

    id: str | None = None
    sequence: str | None = None


@dataclass(frozen=True, slots=True)
class Places:
    """Where in a table they stand. `id` None: it has none, and a record's number is its id."""

    id: int | None
    sequence: int


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
    places = find_places(source.name, header, columns)
    for number, row in enumerate(filter(None, rows), start=1):
        if len(row) != len(header):
            raise InputError(
                f"{source.name}: line {rows.line_num}: {len(row)} fields, but the header has {len(header)}"
            )
        yield str(number) if places.id is None else row[places.id], row[places.sequence]


def read_json_lines(source: Source, columns: Columns) -> Pairs:
    """One object a line, each with its own keys. An id may be a whole number; null is as good as empty."""
    number = 0
    for line_number, line in enumerate(source.text(), start=1):
        if line.strip():
            number += 1
            yield _json_pair(f"{source.name}: line {line_number}", number, line, columns)


def _json_pair(where: str, number: int, line: str, columns: Columns) -> tuple[str, str]:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise InputError(f"{where}: not a JSON object")
    names = list(fields)
    places = find_places(where, names, columns)
    record_id = number if places.id is None else fields[names[places.id]]
    sequence = fields[names[places.sequence]]
    if isinstance(record_id, bool) or not isinstance(record_id, str | int | None):
        raise InputError(f"{where}: {names[places.id or 0]!r} is neither a string nor a whole number")
    if not isinstance(sequence, str | None):
        raise InputError(f"{where}: {names[places.sequence]!r} is not a string")
    return plain(where, "" if record_id is None else str(record_id)), plain(where, sequence or "")


def plain(where: str, text: str) -> str:
    """Raises InputError for what no text file can hold, and no output either."""
    if _UNWRITABLE.search(text):
        raise InputError(f"{where}: a NUL character or half of a surrogate pair in a string")
    return text


def find_places(where: str, header: Sequence[str], columns: Columns) -> Places:
    """The columns that were asked for, else those of the usual names, else the first and the second.

    Raises:
        InputError: there is no such column, or more than one; begins with `where`.
    """
    names = [name.strip() for name in header]
    sequence = _place(where, names, columns.sequence, SEQUENCE_COLUMNS, 1)
    if sequence is None:
        raise InputError(f"{where}: no column of sequences; it has: {', '.join(names) or 'nothing'}")
    record_id = _place(where, names, columns.id, ID_COLUMNS, 0)
    if record_id == sequence and columns.id is None:
        record_id = None  # a table of sequences and labels
    return Places(record_id, sequence)


def _place(
    where: str, names: Sequence[str], asked: str | None, usual: Sequence[str], otherwise: int
) -> int | None:
    if asked is not None and asked not in names:
        raise InputError(f"{where}: no column {asked!r}; it has: {', '.join(names)}")
    lower = [name.lower() for name in names]
    found = [lower.index(name) for name in usual if name in lower]
    place = names.index(asked) if asked is not None else found[0] if found else otherwise
    if place >= len(names):
        return None
    if names.count(names[place]) > 1:
        raise InputError(f"{where}: two columns {names[place]!r}; it has: {', '.join(names)}")
    return place
