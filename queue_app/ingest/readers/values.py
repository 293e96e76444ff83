"""What stands in a record: an id and a sequence that every output can hold, or the reason why there is none.

Values of the wrong kind set their record aside, and nothing else: of millions, one must not stop the others.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

_UNWRITABLE = re.compile("[\0\ud800-\udfff]")
_KINDS: dict[type, str] = {
    bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object",
    bytes: "bytes that are no UTF-8",
}  # fmt: skip
SHOWN_ID_CHARACTERS = 200
SHOWN_CHARACTERS = 40


@dataclass(frozen=True, slots=True)
class Unusable:
    """In the place of a sequence: why there is none. `reason` ends in the place, as in `(line 7)`."""

    reason: str


class Row(NamedTuple):
    """A record as a reader finds it. `header` is what an id was taken from, where that is more than the id.

    `kept` has what stays with the record, by name: a description, or columns of its table.
    """

    id: str
    sequence: str | Unusable
    kept: Mapping[str, object] = {}
    header: str | None = None


def row_of(place: str, record_id: object, sequence: object, kept: Mapping[str, object]) -> Row:
    """A record as its values say; None is as good as an empty string, and an id may be a whole number.

    Where an id cannot be written as it is, its record is quarantined under one that can.
    """
    name, wrong = _id_of(record_id)
    if sequence is None:
        sequence = ""
    if not isinstance(sequence, str):
        wrong = wrong or f"{_kind(sequence)} in the place of a sequence"
    elif _UNWRITABLE.search(sequence):
        wrong = wrong or f"{_what(sequence)} in the sequence"
    if wrong is None and isinstance(sequence, str):
        return Row(name, sequence, kept)
    return Row(name, Unusable(f"{wrong} ({place})"), kept)


def row_of_text(line: int, record_id: str, sequence: str, kept: Mapping[str, object]) -> Row:
    """A record of a text file, which holds no halves of surrogate pairs, and rarely a NUL."""
    if "\0" in sequence or "\0" in record_id:
        return row_of(f"line {line}", record_id, sequence, kept)
    return Row(record_id, sequence, kept)


def writable(text: str) -> str:
    """What no UTF-8 file holds, or no id, as an escape: `\\u0000`."""
    return _UNWRITABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def shown(text: str) -> str:
    """The begin of a text, so that it can be found in the file."""
    return repr(text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…")


def _id_of(value: object) -> tuple[str, str | None]:
    """An id as it is written, and what is wrong with it."""
    if value is None:
        return "", None
    if isinstance(value, str):
        if not _UNWRITABLE.search(value):
            return value, None
        return writable(value), f"{_what(value)} in the id"
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value), None
    shown = repr(value)[:SHOWN_ID_CHARACTERS]
    return shown, f"an id that is neither a string nor a whole number, but {_kind(value)}"


def _what(text: str) -> str:
    return "a NUL character" if "\0" in text else "half of a surrogate pair"


def _kind(value: object) -> str:
    return _KINDS.get(type(value), type(value).__name__)
