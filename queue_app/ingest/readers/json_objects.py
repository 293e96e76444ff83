"""JSON objects as records: in all of a file the same keys hold id and sequence, and the first says which."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from queue_app.errors import InputError
from queue_app.ingest.readers.bounds.limits import Limits
from queue_app.ingest.readers.columns import Columns, find_places, known_id, known_sequences
from queue_app.ingest.readers.keep import MissingKeys
from queue_app.ingest.readers.sources import Source
from queue_app.ingest.readers.values import Row, Unusable, row_of, shown

Keys = tuple[str, str | None]
"""The keys of the sequence and of the id; without one, an object's number is its id."""


class Objects:
    """The objects of one file, in their order.

    A later one that lacks the key of the sequence is quarantined, unless another of its keys would stand in
    for it: that is refused. `are_named` says that each brings its id from without.
    """

    def __init__(self, source: Source, columns: Columns, *, are_named: bool = False) -> None:
        self._source = source
        self._are_named = are_named and columns.id is None
        self._columns = columns
        self._missing = MissingKeys(source.name, columns.keep)
        self._keys: Keys | None = None
        self._names: list[str] = []

    def row(self, place: str, fields: dict[str, Any], record_id: object) -> Row:
        """The record of an object, which stands at `place` in the file. `record_id` is for one without an id.

        Raises InputError for one of another kind than the first, or without the keys that were asked for.
        """
        where = f"{self._source.name}: {place}"
        if self._keys is None:
            self._keys = self._source.taken = self._choose(where, fields)
            self._names = list(fields)
        elif list(fields) != self._names:
            self._names = list(fields)
            self._refuse_others(where, self._keys)
        sequence_key, id_key = self._keys
        self._missing.see(fields)
        kept = self._columns.keep.of_object(where, fields, self._keys)
        name = record_id if id_key is None else fields.get(id_key)
        row = row_of(place, name, fields.get(sequence_key), kept)
        if sequence_key not in fields:
            return row._replace(sequence=Unusable(f"no {shown(sequence_key)} in it ({place})"))
        return row

    def end(self) -> None:
        """To be called behind the last one. Raises InputError where none had a key that was asked for."""
        self._missing.refuse()

    def _choose(self, where: str, fields: Mapping[str, Any]) -> Keys:
        names = list(fields)
        sequence_key, id_key = find_places(where, names, self._columns).names(names)
        return sequence_key, None if self._are_named else id_key

    def _refuse_others(self, where: str, keys: Keys) -> None:
        """An object that lacks a key, and has another that would be taken for it, is of another kind."""
        sequence_key, id_key = keys
        names = self._names
        others = [names[place] for place in known_sequences(names)]
        if sequence_key not in names and others:
            raise InputError(
                f"{where}: its sequence would come from {shown(others[0])}, and comes from "
                f"{shown(sequence_key)} in those before; say with --sequence-column which one holds the "
                "sequences"
            )
        is_free = self._columns.id is None and not self._are_named and id_key not in names
        place = known_id(names) if is_free else None
        if place is not None and names[place] != sequence_key:
            raise InputError(
                f"{where}: its id would come from {shown(names[place])}, and comes from "
                f"{'its number' if id_key is None else shown(id_key)} in those before; say with --id-column"
            )


def with_each_key_once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """For a decoder of JSON. Raises ValueError where one stands there twice."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("a key stands there twice")
    return fields


def loads(text: str, limits: Limits) -> Any:
    """A NUL within a string is a bad value, as it is where it is written \\u0000: it is not refused here.

    Raises ValueError for what is not JSON, or nested too deep.
    """
    try:
        value = json.loads(text, object_pairs_hook=with_each_key_once, strict="\0" not in text)
    except RecursionError:
        raise ValueError(why_too_deep(limits)) from None
    if text.count("[") + text.count("{") > limits.nesting and is_deeper(value, limits.nesting):
        raise ValueError(why_too_deep(limits))
    return value


def why_too_deep(limits: Limits) -> str:
    return limits.more_than("nesting", "lists and objects one within the other")


def is_deeper(value: Any, most: int) -> bool:
    """True where more lists and objects than that stand one within the other."""
    level = [value]
    for _ in range(most):
        level = [each for each in level if isinstance(each, list | dict)]
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
    return any(isinstance(each, list | dict) for each in level)
