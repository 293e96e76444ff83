"""JSON lines: one object a line, and in all of them the same keys of id and sequence."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from queue_app.columns import Columns, find_places, plain
from queue_app.errors import InputError
from queue_app.sources import Pairs, Source


@dataclass(frozen=True, slots=True)
class _Keys:
    """Where an object has its id and its sequence. `id` None: its number is its id."""

    id: str | None
    sequence: str

    def __str__(self) -> str:
        return f"{'its number' if self.id is None else repr(self.id)} and {self.sequence!r}"


def read_json_lines(source: Source, columns: Columns) -> Pairs:
    """An id may be a whole number; null is as good as empty.

    Where one object lacks a key, another of its keys would stand in for it: that is refused.
    """
    number = 0
    names: list[str] = []
    keys: _Keys | None = None
    for line_number, line in enumerate(source.text(), start=1):
        if not line.strip():
            continue
        number += 1
        where = f"{source.name}: line {line_number}"
        fields = _object(where, line)
        if keys is None or list(fields) != names:
            names = list(fields)
            keys = _keys(where, names, columns, keys)
        yield _pair(where, number, fields, keys)


def _object(where: str, line: str) -> dict[str, Any]:
    try:
        fields = json.loads(line, object_pairs_hook=_with_each_key_once)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON, one object a line: {error}") from None
    if not isinstance(fields, dict):
        raise InputError(f"{where}: not a JSON object, as every line must be one")
    return fields


def _with_each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("a key stands there twice")
    return fields


def _keys(where: str, names: Sequence[str], columns: Columns, before: _Keys | None) -> _Keys:
    places = find_places(where, names, columns)
    keys = _Keys(None if places.id is None else names[places.id], names[places.sequence])
    if before not in (None, keys):
        raise InputError(
            f"{where}: id and sequence would come from {keys}, and come from {before} in the lines before; "
            "write null where a value is missing"
        )
    return keys


def _pair(where: str, number: int, fields: Mapping[str, Any], keys: _Keys) -> tuple[str, str]:
    record_id, sequence = number if keys.id is None else fields[keys.id], fields[keys.sequence]
    if isinstance(record_id, bool) or not isinstance(record_id, str | int | None):
        raise InputError(f"{where}: {keys.id!r} is neither a string nor a whole number")
    if not isinstance(sequence, str | None):
        raise InputError(f"{where}: {keys.sequence!r} is not a string")
    return plain(where, "" if record_id is None else str(record_id)), plain(where, sequence or "")
