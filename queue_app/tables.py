"""CSV and TSV, row by row: every row is a record, and the header is never one."""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from queue_app.columns import ID_COLUMNS, SEQUENCE_COLUMNS, Columns, Places, find_places
from queue_app.errors import InputError
from queue_app.sources import Pairs, Source, shown

FIELD_CHARACTERS_MOST = 1 << 30
_USUAL_NAMES = {*ID_COLUMNS, *SEQUENCE_COLUMNS}
_NO_NAME = re.compile(r".*\d.*|[A-Z*-]{12,}|.{40,}|.+[.!?=]", re.DOTALL)
"""What names no column, most likely: what has a number in it, a sequence, a sentence, the `sep=` of Excel."""


def read_csv(source: Source, columns: Columns) -> Pairs:
    """Strict: a stray quotation mark would otherwise swallow every record to the end of the file."""
    return _read_table(source, columns, source.text(newline=""), csv.excel)


def read_tsv(source: Source, columns: Columns) -> Pairs:
    """A quotation mark is a letter like any other, unless the header is quoted, as R writes it."""
    text = source.text(newline="")
    first = text.readline()
    dialect = csv.excel_tab if first.startswith('"') else _Unquoted
    return _read_table(source, columns, chain([first], text), dialect)


class _Unquoted(csv.excel_tab):
    quoting = csv.QUOTE_NONE


def _read_table(source: Source, columns: Columns, lines: Iterable[str], dialect: type[csv.Dialect]) -> Pairs:
    rows = _rows(source, lines, dialect)
    _, header = next(rows, (1, []))
    places = _places(source.name, header, columns)
    number = 0
    for line, row in rows:
        if not row and len(header) > 1:
            continue
        number += 1
        fields = row or [""]  # of a single column, a blank line is a value like any other
        if len(fields) != len(header):
            raise InputError(
                f"{source.name}: line {line}: {len(fields)} fields, but the header has {len(header)}"
            )
        yield str(number) if places.id is None else fields[places.id], fields[places.sequence]


def _rows(
    source: Source, lines: Iterable[str], dialect: type[csv.Dialect]
) -> Iterator[tuple[int, list[str]]]:
    """Each with the line on which it begins: a quotation mark that is never closed ends with the file."""
    csv.field_size_limit(FIELD_CHARACTERS_MOST)
    reader, line = csv.reader(lines, dialect, strict=True), 1
    try:
        for row in reader:
            yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(
            f"{source.name}: line {line}: not CSV ({error}): look at the quotation marks from here on"
        ) from None


def _places(where: str, header: Sequence[str], columns: Columns) -> Places:
    """Raises InputError also where the first record stands in place of a header: it would be lost."""
    try:
        places = find_places(where, header, columns)
    except InputError as error:
        if len(header) > 1:
            raise
        raise InputError(f"{error} (commas separate in CSV, tabs in TSV: see --input-format)") from None
    is_header = columns != Columns() or {name.strip().lower() for name in header} & _USUAL_NAMES
    names = [] if is_header else [header[places.id or 0].strip(), header[places.sequence].strip()]
    if value := next(filter(_NO_NAME.fullmatch, names), None):
        raise InputError(
            f"{where}: line 1 must name the columns, but {shown(value)} looks like a value: put id,sequence "
            "above it, or say with --sequence-column that it is a name"
        )
    return places
