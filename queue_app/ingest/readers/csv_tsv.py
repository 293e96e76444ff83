"""CSV and TSV, row by row: every row is a record, and the header is never one."""

import csv
from collections.abc import Iterable, Iterator
from itertools import chain

from queue_app.errors import InputError
from queue_app.ingest.readers.bounds.guarded import Unit
from queue_app.ingest.readers.bounds.limits import DEFAULT, OPTION
from queue_app.ingest.readers.columns import Columns, Places, find_places
from queue_app.ingest.readers.sources import Rows, Source
from queue_app.ingest.readers.values import row_of_text
from queue_app.shown import visible

FIELD_CHARACTERS_MOST = DEFAULT.record


def read_csv(source: Source, columns: Columns) -> Rows:
    """Strict: a stray quotation mark would otherwise swallow every record to the end of the file."""
    return _read_table(source, columns, source.text(newline=""), csv.excel)


def read_tsv(source: Source, columns: Columns) -> Rows:
    """A quotation mark is a letter like any other, unless the header is quoted, as R writes it."""
    text = source.text(newline="")
    first = text.readline()
    dialect = csv.excel_tab if first.startswith('"') else _Unquoted
    return _read_table(source, columns, chain([first], text), dialect)


class _Unquoted(csv.excel_tab):
    quoting = csv.QUOTE_NONE


def _read_table(source: Source, columns: Columns, lines: Iterable[str], dialect: type[csv.Dialect]) -> Rows:
    rows = _rows(source, lines, dialect, columns.separator or dialect.delimiter)
    _, header = next(rows, (1, []))
    places = _places(source.name, header, columns)
    names = [name.strip() for name in header]
    source.taken = places.names(names)
    kept = columns.keep.of_table(source.name, names, (places.id, places.sequence))
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
        record_id = str(number) if places.id is None else fields[places.id]
        own = {name: fields[place] for name, place in kept}
        yield row_of_text(line, record_id, fields[places.sequence], own)


def _rows(
    source: Source, lines: Iterable[str], dialect: type[csv.Dialect], delimiter: str
) -> Iterator[tuple[int, list[str]]]:
    """Rows, with the line on which each begins: a quotation mark that is never closed ends with the file."""
    most = max(FIELD_CHARACTERS_MOST, source.limits.record)
    csv.field_size_limit(most)
    reader, line = csv.reader(lines, dialect, strict=True, delimiter=delimiter), 1
    source.measure(Unit("the row on line", lambda: line, (delimiter.encode(),)))
    try:
        for row in reader:
            yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        what = f"not CSV ({visible(str(error))}): look at the quotation marks from here on"
        if "field limit" in str(error):
            what = f"a field of more than {most:,} characters: look at the quotation marks from here on, or "
            what += f"see {OPTION} record={2 * most}"
        raise InputError(f"{source.name}: line {line}: {what}") from None


def _places(where: str, header: list[str], columns: Columns) -> Places:
    try:
        return find_places(where, header, columns)
    except InputError as error:
        if len(header) > 1:
            raise
        raise InputError(f"{error} (commas separate in CSV, tabs in TSV: else see --delimiter)") from None
