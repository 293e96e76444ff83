"""Which columns of a table hold ids and sequences, whatever its format, and what may stand in them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from queue_app.errors import InputError

ID_COLUMNS = ("id", "name")
SEQUENCE_COLUMNS = ("sequence", "seq", "text")
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


def plain(where: str, text: str) -> str:
    """Raises InputError for what no text file can hold, and no output either."""
    if _UNWRITABLE.search(text):
        raise InputError(f"{where}: a NUL character or half of a surrogate pair in a string")
    return text


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
