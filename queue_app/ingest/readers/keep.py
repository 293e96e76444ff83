"""What stays with a record beside its id: descriptions of headers, and columns of tables.

Names are those of the input, and the columns of the outputs are called so too.
"""

import csv
import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from queue_app.errors import InputError, UsageError
from queue_app.ingest.readers.values import shown, writable
from queue_app.shown import visible

DESCRIPTION = "description"
"""What the description of a header is called among the columns."""
ALL, NONE = "all", "none"
OWN_NAMES = frozenset(("id", "ordinal", "embedding"))
"""Columns of an output by themselves; others of several vectors begin as the last one does."""
OBJECTS_LOOKED_AT = 1_000
"""Among so many objects of a JSON file one must have a key that was asked for."""
NAMES_SHOWN = 12
NAME_CHARACTERS = 40


@dataclass(frozen=True, slots=True)
class Keep:
    """What was asked for; None keeps descriptions alone."""

    names: tuple[str, ...] | None = None

    @classmethod
    def of(cls, written: str | Sequence[str] | None) -> "Keep":
        """Raises UsageError as `parse_keep`."""
        return cls(None if written is None else parse_keep(written))

    @property
    def descriptions(self) -> bool:
        """Those of headers stay, unless nothing does."""
        return self.names != (NONE,)

    @property
    def asked(self) -> tuple[str, ...]:
        """The columns that were named."""
        return () if self.names in (None, (ALL,), (NONE,)) else self.names or ()

    @property
    def option(self) -> str:
        """How it was written, for messages."""
        return f"--keep {','.join(self.names or ())}"

    def of_table(
        self, where: str, header: Sequence[str], taken: Iterable[int | None]
    ) -> list[tuple[str, int]]:
        """Names and places of what stays; `taken` are those of ids and sequences, which `all` leaves out.

        Raises InputError for one that is not there, or that an output could not hold beside its own.
        """
        for name in self.asked:
            if name not in header:
                raise InputError(f"{where}: --keep: no column {name!r}; it has: {shown_names(header)}")
            refuse_twice(where, header, name)
        if self.names != (ALL,):
            return [(name, header.index(name)) for name in self.asked]
        places = sorted({*range(len(header))} - {*taken})
        names = [header[place] or f"column {place + 1}" for place in places]
        for name in names:
            refuse_twice(where, names, name)
            _refuse_own(where, name)
        return list(zip(names, places, strict=True))

    def of_object(
        self, where: str, fields: Mapping[str, Any], taken: Collection[str | None]
    ) -> dict[str, Any]:
        """What stays of a JSON object; a key that it lacks has no value. Raises as `of_table`."""
        if self.names != (ALL,):
            return {name: fields.get(name) for name in self.asked}
        kept = {writable(name): value for name, value in fields.items() if name not in taken}
        for name in kept:
            _refuse_own(where, name)
        return kept


class MissingKeys:
    """The keys that no object of a JSON file had yet."""

    def __init__(self, where: str, keep: Keep) -> None:
        self._where = where
        self._missing = set(keep.asked)
        self._first: list[str] | None = None
        self._num_objects = 0

    def see(self, fields: Mapping[str, Any]) -> None:
        """Raises InputError when all of the first thousand lack one."""
        if not self._missing:
            return
        self._first = self._first or list(fields)
        self._missing -= fields.keys()
        self._num_objects += 1
        if self._num_objects == OBJECTS_LOOKED_AT:
            self.refuse()

    def refuse(self) -> None:
        """Raises InputError when one is missing."""
        if self._missing and self._first is not None:
            there = shown_names(self._first)
            raise InputError(
                f"{self._where}: --keep: no object has the key {min(self._missing)!r}; the first has: {there}"
            )


def parse_keep(text: str | Sequence[str]) -> tuple[str, ...]:
    """`all`, `none`, or names joined by commas; one with a comma in it is quoted.

    Raises UsageError for what cannot be kept under its name.
    """
    written = next(csv.reader([text], skipinitialspace=True), []) if isinstance(text, str) else text
    names = tuple(name.strip() for name in written)
    if not names or "" in names or len(set(names)) < len(names):
        raise UsageError(f"--keep {text}: names of columns, each once, or {ALL} or {NONE}")
    if len(names) > 1 and {ALL, NONE} & set(names):
        raise UsageError(f"--keep {text}: {ALL} and {NONE} stand alone")
    for name in names:
        if _is_own(name):
            raise UsageError(f"--keep {name}: an output has a column of this name already")
    return names


def written_keep(names: Sequence[str]) -> str:
    """As `parse_keep` reads it."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(names)
    return line.getvalue()


def _is_own(name: str) -> bool:
    return name in OWN_NAMES or name.startswith("embedding_")


def _refuse_own(where: str, name: str) -> None:
    if _is_own(name):
        raise InputError(
            f"{where}: --keep all: an output has a column {shown(name)} of its own; name those that are to "
            "be kept"
        )


def shown_names(names: Collection[str]) -> str:
    """The first of them, each cut to what can be read, in letters that can be seen."""
    short = [name if len(name) <= NAME_CHARACTERS else f"{name[:NAME_CHARACTERS]}…" for name in names]
    more = [f"… and {len(short) - NAMES_SHOWN:,} more"] if len(short) > NAMES_SHOWN else []
    listed = " ".join(", ".join([*short[:NAMES_SHOWN], *more]).split())
    return visible(listed, len(listed)) or "nothing"


def refuse_twice(where: str, names: Sequence[str], name: str) -> None:
    if names.count(name) > 1:
        raise InputError(f"{where}: two columns {shown(name)}; it has: {shown_names(names)}")
