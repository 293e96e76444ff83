"""The bytes of a text on their way to its parser, in chunks: lines are counted, and the absurd is refused.

What is measured is measured once a chunk, so that it costs a record nothing.
"""

import codecs
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from queue_app.errors import InputError
from queue_app.ingest.readers.bounds.limits import OPTION, Limits

UNMEASURED_BYTES = 1 << 20
"""Of a line, row or record that is shorter the values are not counted."""
UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
TAR_MAGIC, TAR_MAGIC_AT = b"ustar", 257
_CONTROL = re.compile(rb"[\x01-\x08\x0e-\x1f]")
_LINE_END = re.compile(b"\r\n?|\n")
_FOUR_BYTES = (b"\xf0", b"\xf1", b"\xf2", b"\xf3", b"\xf4")
"""With one of them a character of four bytes begins, in UTF-8 as in memory."""
JSON_SIGNS = (b",", b"[", b"{")
"""What stands before a value of JSON, or opens one."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What a parser holds in memory at once: a line, a row of several, a record.

    `number` tells at which one it is; each of `signs` may begin a value in it.
    """

    noun: str
    number: Callable[[], int]
    signs: tuple[bytes, ...] = ()


class Guarded(io.RawIOBase):
    """Counts lines, and refuses what is no text: a line with several NUL bytes, and a unit without end.

    A line ends as on any system: with \\n, \\r\\n, or \\r alone.
    """

    def __init__(self, name: str, read: Callable[[int], bytes | None], limits: Limits) -> None:
        self._name = name
        self._read = read
        self._limits = limits
        self._line_has_nul = False
        self._ended_in_return = False
        self._reached = self._unit_bytes = self._num_values = 0
        self._is_wide = False
        self.num_lines = 0
        self.unit = Unit("line", lambda: self.num_lines + 1)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._read(len(buffer)) or b""
        if b"\0" in data:
            self._refuse_binary(data)
        elif b"\n" in data or b"\r" in data:
            self._line_has_nul = False
        self._count(data)
        self._measure(data)
        buffer[: len(data)] = data
        return len(data)

    def _refuse_binary(self, data: bytes) -> None:
        """One NUL may be a damaged value. More are a hole or UTF-16, and beside other such signs no text."""
        for number, line in enumerate(_LINE_END.split(data)):
            nuls = line.count(b"\0")
            if nuls + (number == 0 and self._line_has_nul) > 1 or (nuls and _CONTROL.search(line)):
                where = f"{self._name}: line {self.num_lines + number + 1}"
                raise InputError(f"{where}: {_what_has_nuls(data)}")
            self._line_has_nul = nuls > 0 or (number == 0 and self._line_has_nul)

    def _count(self, data: bytes) -> None:
        ends = data.count(b"\n")
        if b"\r" in data:
            ends += data.count(b"\r") - data.count(b"\r\n")
        if self._ended_in_return and data.startswith(b"\n"):
            ends -= 1
        self._ended_in_return = data.endswith(b"\r") if data else self._ended_in_return
        self.num_lines += ends

    def _measure(self, data: bytes) -> None:
        """Where the unit began within a chunk is not known: the whole chunk counts as its own."""
        reached = self.unit.number()
        if reached != self._reached:
            self._reached, self._unit_bytes, self._num_values, self._is_wide = reached, 0, 0, False
        self._unit_bytes += len(data)
        self._is_wide = self._is_wide or (not data.isascii() and any(map(data.count, _FOUR_BYTES)))
        if self._unit_bytes <= UNMEASURED_BYTES:
            return
        most = self._limits.wide_line if self._is_wide else self._limits.line
        if self._unit_bytes > most:
            self._refuse(
                f"is longer than {most >> 20} MiB; is this the right file? {OPTION} record=N allows "
                f"{'half' if self._is_wide else 'a fourth more than'} N bytes"
            )
        self._num_values += sum(map(data.count, self.unit.signs))
        if self._num_values > self._limits.values:
            self._refuse(f"has {self._limits.more_than('values', 'values')}")

    def _refuse(self, what: str) -> None:
        raise InputError(f"{self._name}: {self.unit.noun} {self._reached} {what}")


def _what_has_nuls(data: bytes) -> str:
    if data.startswith(UTF_16_MARKS):
        return "UTF-16; convert it (iconv -f UTF-16 -t UTF-8)"
    if data[TAR_MAGIC_AT:].startswith(TAR_MAGIC):
        return "a tar archive, which is not read: unpack it first"
    return "NUL bytes; this is a binary file"
