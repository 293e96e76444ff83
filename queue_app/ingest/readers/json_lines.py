"""JSON lines: one object a line, and in all of them the same keys of id and sequence."""

from typing import Any

from queue_app.errors import InputError
from queue_app.ingest.readers.bounds.guarded import JSON_SIGNS, Unit
from queue_app.ingest.readers.columns import Columns
from queue_app.ingest.readers.json_objects import Objects, loads
from queue_app.ingest.readers.sources import Rows, Source
from queue_app.ingest.readers.values import Row

AS_JSON = "if it is one array or one object over all records, say --input-format json"


def read_json_lines(source: Source, columns: Columns) -> Rows:
    """The first object says which keys are taken."""
    objects, number = Objects(source, columns), 0
    first: dict[str, Any] = {}
    source.measure(Unit("line", lambda: source.line, JSON_SIGNS))
    for line_number, line in enumerate(source.text(), start=1):
        if line.strip():
            number += 1
            fields = _object(source, line_number, line)
            first = first or fields
            yield _row(objects, f"line {line_number}", fields, number)
    objects.end()
    if number == 1 and isinstance(first.get(source.taken[0] or ""), list | dict):
        raise InputError(f"{source.name}: one JSON object over many records; {AS_JSON}")


def _object(source: Source, line_number: int, line: str) -> dict[str, Any]:
    where = f"{source.name}: line {line_number}"
    try:
        fields = loads(line, source.limits)
    except ValueError as error:
        raise InputError(f"{where}: not JSON lines, one object a line ({error}); {AS_JSON}") from None
    if not isinstance(fields, dict):
        raise InputError(f"{where}: not a JSON object, as every line must be one; {AS_JSON}")
    return fields


def _row(objects: Objects, place: str, fields: dict[str, Any], number: int) -> Row:
    try:
        return objects.row(place, fields, number)
    except InputError as error:
        is_mapping = len(fields) > 1 and all(isinstance(value, str) for value in fields.values())
        raise InputError(f"{error}; {AS_JSON}" if is_mapping and number == 1 else str(error)) from None
