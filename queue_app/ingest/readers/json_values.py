"""JSON that is one array, or one object over all records, of any size: an element at a time is in memory.

| what stands there | a record is |
|---|---|
| `[{"id": "a", "sequence": "MKV"}, …]` | an object |
| `["MKV", "GLS", …]` | a string; its id is its number |
| `{"a": "MKV", "b": "GLS", …}` | a string; its id is its key |
| `{"a": {"sequence": "MKV"}, …}` | an object; its id is its key |
"""

import json
import re
from collections.abc import Iterator
from typing import Any, TextIO

from queue_app.errors import InputError
from queue_app.ingest.readers.bounds.guarded import JSON_SIGNS, Unit
from queue_app.ingest.readers.columns import Columns, known_id, known_sequences
from queue_app.ingest.readers.json_objects import Objects, is_deeper, why_too_deep, with_each_key_once
from queue_app.ingest.readers.sources import Rows, Source
from queue_app.ingest.readers.values import row_of, shown

CHUNK_CHARACTERS = 1 << 20
AS_PANDAS = "columns, one after the other, as pandas writes them: write it with orient='records'"
AS_JSON_LINES = "if it is one object a line, say --input-format jsonl"

_BLANKS = re.compile(r"[ \t\n\r]*")

Element = tuple[str | None, Any]
"""Its key, where it has one, and its value."""


def read_json(source: Source, columns: Columns) -> Rows:
    """The first element says what all of them are: strings, or objects with the same keys."""
    text = JsonText(source)
    objects: Objects | None = None
    kind: type | None = None
    for number, (key, value) in enumerate(text.elements(), start=1):
        place, kind = f"record {number}", kind or type(value)
        text.refuse_unless(number > 1 or not _is_a_column(key, value), AS_PANDAS)
        text.refuse_unless(kind in (str, dict), f"{place} is neither an object nor a string{_hint(value)}")
        text.refuse_unless(type(value) is kind, f"{place} is another kind of value than the first")
        name = number if key is None else key
        if kind is str:
            _refuse_unheeded(text, columns, key)
            yield row_of(place, name, value, {})
        else:
            objects = objects or Objects(source, columns, are_named=key is not None)
            yield objects.row(place, value, name)
    if objects is not None:
        objects.end()


def _is_a_column(key: str | None, value: object) -> bool:
    """True where a key names what should be many, and its value has as many."""
    return _is_known(key) and isinstance(value, list | dict)


def _is_known(key: str | None) -> bool:
    """True for a key that a record by itself would have, and no id."""
    return key is not None and (known_id([key]) is not None or bool(known_sequences([key])))


def _hint(value: object) -> str:
    return "; jq takes the part out that holds the records, as in jq .data" if isinstance(value, list) else ""


def _refuse_unheeded(text: "JsonText", columns: Columns, key: str | None) -> None:
    options = [*columns.asked, *(["--keep"] if columns.keep.asked else [])]
    text.refuse_unless(
        not options, f"{', '.join(options)}: its records are strings, without keys; {AS_JSON_LINES}"
    )
    text.refuse_unless(
        not _is_known(key), f"one object with a key {shown(key or '')} is one record: put it into [ ]"
    )


class JsonText:
    """The text of a file, decoded a value at a time."""

    def __init__(self, source: Source) -> None:
        self._name = source.name
        self._limits = source.limits
        self._num_elements = 1
        source.measure(Unit("record", lambda: self._num_elements, JSON_SIGNS))
        self._text: TextIO = source.text()
        self._buffer, self._at, self._line = "", 0, 1
        self._is_all = False

    def elements(self) -> Iterator[Element]:
        """Those of the array, or of the object, that the file is.

        Raises InputError with the line for what is not JSON, is cut off, or has something behind its end.
        """
        begin = self._sign()
        self.refuse_unless(begin in ("[", "{"), f"not JSON: it begins with neither [ nor {{; {AS_JSON_LINES}")
        end = "]" if begin == "[" else "}"
        self._at += 1
        while self._sign() != end:
            key = self._key() if begin == "{" else None
            yield key, self._value()
            self._num_elements += 1
            if self._sign() == ",":
                self._at += 1
                self.refuse_unless(self._sign() != end, f"not JSON: a comma before {end}")
            else:
                self._expect(end, f"a comma or {end}")
        self._at += 1
        self.refuse_unless(not self._sign(), f"something stands behind its {end}; {AS_JSON_LINES}")

    def refuse_unless(self, is_so: bool, what: str) -> None:
        """Raises InputError with the line that was reached."""
        if not is_so:
            line = self._line + self._buffer.count("\n", 0, self._at)
            raise InputError(f"{self._name}: line {line}: {what}")

    def _key(self) -> str:
        self._expect('"', "a key")
        key: str = self._value()
        self._expect(":", "a colon")
        self._at += 1
        return key

    def _expect(self, sign: str, what: str) -> None:
        found = self._sign()
        self.refuse_unless(found != "", "the JSON is cut off")
        self.refuse_unless(found == sign, f"not JSON: {what} is missing")

    def _sign(self) -> str:
        """The next character that is no blank; empty at the end."""
        while True:
            self._at = _BLANKS.match(self._buffer, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            if self._is_all:
                return ""
            self._read(CHUNK_CHARACTERS)

    def _value(self) -> Any:
        """What begins here. One that is not whole in the buffer looks like one that is wrong: so it is tried
        again with twice as much, as long as it may be a record."""
        self.refuse_unless(self._sign() != "", "the JSON is cut off")
        while True:
            try:
                return self._decode()
            except RecursionError:
                self.refuse_unless(False, f"not JSON: {why_too_deep(self._limits)}")
            except ValueError as error:
                waiting, most = len(self._buffer) - self._at, self._limits.line
                if self._is_all or waiting >= most:
                    self.refuse_unless(False, f"{self._why()} ({getattr(error, 'msg', None) or error})")
                self._read(max(CHUNK_CHARACTERS, min(waiting, most - waiting)))

    def _why(self) -> str:
        return "not JSON" if self._is_all else f"not JSON, or longer than {self._limits.line >> 20} MiB"

    def _decode(self) -> Any:
        decoder = json.JSONDecoder(object_pairs_hook=with_each_key_once, strict="\0" not in self._buffer)
        value, end = decoder.raw_decode(self._buffer, self._at)
        if end == len(self._buffer) and not self._is_all and not isinstance(value, str | list | dict):
            raise ValueError("a number may go on")
        signs = self._buffer.count("[", self._at, end) + self._buffer.count("{", self._at, end)
        if signs > self._limits.nesting and is_deeper(value, self._limits.nesting):
            raise RecursionError
        self._at = end
        return value

    def _read(self, num_characters: int) -> None:
        """Read on, and forget what was decoded."""
        self._line += self._buffer.count("\n", 0, self._at)
        more = self._text.read(num_characters)
        self._buffer, self._at = self._buffer[self._at :] + more, 0
        self._is_all = not more
