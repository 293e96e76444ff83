"""JSON lines: one object a line, and in all of them the same keys of id and sequence."""

import json
from collections.abc import Sequence
from typing import Any

from queue_app.errors import InputError
from queue_app.ingest.readers.columns import Columns, find_places, known_id, known_sequences
from queue_app.ingest.readers.sources import Pairs, Source
from queue_app.ingest.readers.values import Unusable, pair_of

OF_A_MAPPING = (
    "if it is one object over all records, "
    "jq -c 'to_entries[] | {id: .key, sequence: .value}' makes JSON lines of it"
)

Keys = tuple[str, str | None]
"""The keys of the sequence and of the id; without one, an object's number is its id."""


def read_json_lines(source: Source, columns: Columns) -> Pairs:
    """The first object says which keys are taken.

    A later one that lacks the key of the sequence is set aside, unless another of its keys would stand in
    for it: that is refused.
    """
    number, names = 0, list[str]()
    keys: Keys | None = None
    first: object = None
    for line_number, line in enumerate(source.text(), start=1):
        if not line.strip():
            continue
        number += 1
        where = f"{source.name}: line {line_number}"
        fields = _object(where, line)
        if keys is None:
            keys = source.taken = _keys(where, fields, columns)
            names, first = list(fields), fields[keys[0]]
        elif list(fields) != names:
            names = list(fields)
            _refuse_other_keys(where, names, columns, keys)
        yield _pair(f"line {line_number}", number, fields, keys)
    if keys is not None and number == 1 and isinstance(first, list | dict):
        raise InputError(f"{source.name}: one JSON object over many records, and not one object a record")


def _object(where: str, line: str) -> dict[str, Any]:
    try:
        # A NUL within a string is a bad value, as it is where it is written \\u0000.
        fields = json.loads(line, object_pairs_hook=_with_each_key_once, strict="\0" not in line)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{where}: not JSON lines, one object a line ({error}); {_remedy(line)} makes them of other JSON"
        ) from None
    if isinstance(fields, list):
        raise InputError(f"{where}: a JSON array, and not an object a line; jq -c '.[]' makes lines of it")
    if not isinstance(fields, dict):
        raise InputError(f"{where}: not a JSON object, as every line must be one")
    return fields


def _remedy(line: str) -> str:
    return "jq -c '.[]'" if line.lstrip().startswith("[") else "jq -c ."


def _with_each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("a key stands there twice")
    return fields


def _keys(where: str, fields: dict[str, Any], columns: Columns) -> Keys:
    names = list(fields)
    try:
        return find_places(where, names, columns).names(names)
    except InputError as error:
        is_mapping = len(names) > 1 and all(isinstance(value, str) for value in fields.values())
        raise InputError(f"{error}; {OF_A_MAPPING}" if is_mapping else str(error)) from None


def _refuse_other_keys(where: str, names: Sequence[str], columns: Columns, keys: Keys) -> None:
    """An object that lacks a key, and has another that would be taken for it, is of another kind."""
    sequence_key, id_key = keys
    others = [names[place] for place in known_sequences(names)]
    if sequence_key not in names and others:
        raise InputError(
            f"{where}: its sequence would come from {others[0]!r}, and comes from {sequence_key!r} in the "
            "lines before; say with --sequence-column which one holds the sequences"
        )
    place = known_id(names) if columns.id is None and id_key not in names else None
    if place is not None and names[place] != sequence_key:
        raise InputError(
            f"{where}: its id would come from {names[place]!r}, and comes from "
            f"{'its number' if id_key is None else repr(id_key)} in the lines before; say with --id-column"
        )


def _pair(place: str, number: int, fields: dict[str, Any], keys: Keys) -> tuple[str, str | Unusable]:
    sequence_key, id_key = keys
    name = number if id_key is None else fields.get(id_key)
    record_id, sequence = pair_of(place, name, fields.get(sequence_key))
    if sequence_key not in fields:
        return record_id, Unusable(f"no {sequence_key!r} in it ({place})")
    return record_id, sequence
