"""One input file as a checked stream of text: hashed as it is read, unpacked, guarded against the absurd.

What a parser reads is nothing until the end has been read: a truncated archive yields thousands of good
lines before it says so. Whoever reads must read to the end.
"""

import contextlib
import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from queue_app.errors import InputError
from queue_app.ingest.readers.bounds.guarded import Guarded, Unit
from queue_app.ingest.readers.bounds.limits import DEFAULT, Limits
from queue_app.ingest.readers.compression import ArchiveError, unpack
from queue_app.ingest.readers.documents import unread_document
from queue_app.ingest.readers.values import Row
from queue_app.job.spec import InputFile

MAGIC_BYTES = 8
BUFFER_BYTES = 1 << 20
BLOCK_CHARACTERS = 1 << 20
STANDARD_INPUT = Path("-")
_NO_UTF_8 = re.compile("[\udc80-\udcff]")

_UNREADABLE = (ArchiveError, InputError, OSError)

Rows = Iterator[Row]
"""Every record, in the file's order."""


@dataclass(frozen=True, slots=True)
class Input:
    """One input: the file that is read, and what the user named, which for a pipe is another thing."""

    path: Path
    named: Path

    @property
    def title(self) -> str:
        """What messages call it."""
        return "stdin" if self.named == STANDARD_INPUT else str(self.named)


class Source:
    """An input that is being read. `line` is about where; `file()` says what was read, once all was.

    Whoever reads it as a table says in `taken` which of its columns: of sequences, and of ids.
    """

    def __init__(self, source: Input, limits: Limits = DEFAULT) -> None:
        self.name = source.title
        self.limits = limits
        self.taken: tuple[str | None, str | None] = (None, None)
        self._raw = _Hashed(source)
        self.magic = self._raw.peek(MAGIC_BYTES)
        if what := unread_document(source.path, self.name, self.magic):
            raise ArchiveError(what)
        self._guarded = Guarded(self.name, unpack(self._raw, self.magic, limits).read, limits)
        self.binary = _Shared(self._guarded, BUFFER_BYTES)

    @property
    def line(self) -> int:
        return self._guarded.num_lines + 1

    def text(self, *, newline: str | None = None) -> io.TextIOWrapper:
        """UTF-8, in lines that end as on any system; \\x0b, \\x1c and U+2028 may stand in a text."""
        return io.TextIOWrapper(self.binary, encoding="utf-8-sig", newline=newline)

    def blocks(self) -> Iterator[list[str]]:
        """The lines of the text, a megabyte at a time."""
        text = self.text()
        while block := text.readlines(BLOCK_CHARACTERS):
            yield block

    def measure(self, unit: Unit) -> None:
        """What its parser holds in memory at once, where that is more than a line, or has values."""
        self._guarded.unit = unit

    def seekable(self) -> io.FileIO:
        """The file as it lies there, for what is read from its end; `file()` hashes it afterwards."""
        return self._raw.unhashed

    def file(self) -> InputFile:
        """What the file was; hashes what a parser left unread, too."""
        return self._raw.hash_to_the_end()

    def raw_head(self, num_bytes: int) -> bytes:
        """What the file begins with, as it lies there. Before anything else is read."""
        return self._raw.peek(num_bytes)

    def head(self, num_bytes: int) -> bytes:
        """What it begins with, unpacked. Nothing else is to be read of it afterwards."""
        return self.binary.read(num_bytes)

    def close(self) -> None:
        self._raw.close()


@contextlib.contextmanager
def open_source(source: Input, limits: Limits = DEFAULT) -> Iterator[Source]:
    """Open an input; whatever is wrong with it comes out as one InputError that names file and line."""
    opened = None
    try:
        opened = Source(source, limits)
        yield opened
    except (ArchiveError, csv.Error) as error:
        where = f": near line {opened.line}" if opened else ""
        raise InputError(f"{source.title}{where}: {error}") from None
    except UnicodeDecodeError:
        raise InputError(
            f"{source.title}: line {_line_of_no_text(source, limits)}: not UTF-8 text; "
            "convert it (iconv -f LATIN1 -t UTF-8), or is this a binary file?"
        ) from None
    except OSError as error:
        raise InputError(f"{source.title}: cannot be read: {error.strerror or error}") from None
    finally:
        if opened is not None:
            opened.close()


def _line_of_no_text(source: Input, limits: Limits) -> int:
    """Found by reading again: what a parser reads ahead of is up to a megabyte. What else is wrong with the
    file, which reading ahead may meet first, changes nothing."""
    number = 0
    with contextlib.closing(Source(source, limits)) as again, contextlib.suppress(*_UNREADABLE):
        text = io.TextIOWrapper(again.binary, "utf-8", errors="surrogateescape", newline=None)
        for line in text:
            number += 1
            if _NO_UTF_8.search(line):
                break
    return max(number, 1)


def digest_inputs(inputs: Sequence[Input]) -> tuple[InputFile, ...]:
    """Hash the inputs without parsing them. Raises InputError when one cannot be read."""
    found = []
    for each in inputs:
        with open_source(each) as opened:
            found.append(opened.file())
    return tuple(found)


class _Shared(io.BufferedReader):
    """Stays open when the text wrapper of a parser that is done with it closes it."""

    def close(self) -> None:
        pass


class _Hashed(io.RawIOBase):
    """The raw bytes of a file, hashed as they pass."""

    def __init__(self, source: Input) -> None:
        self._named = source.named
        self.unhashed = source.path.open("rb", buffering=0)
        self._state = xxhash.xxh3_128()
        self._size_bytes = 0

    def peek(self, num_bytes: int) -> bytes:
        """The first bytes of a file of which nothing was read yet."""
        first = self.unhashed.read(num_bytes) or b""
        self.unhashed.seek(0)
        return first

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self.unhashed.readinto(buffer) or 0
        self._state.update(memoryview(buffer)[:count])
        self._size_bytes += count
        return count

    def hash_to_the_end(self) -> InputFile:
        self.unhashed.seek(self._size_bytes)
        while self.read(BUFFER_BYTES):
            pass
        digest = self._state.hexdigest()
        if self._named == STANDARD_INPUT:
            return InputFile("stdin", "-", self._size_bytes, digest)
        path = self._named.absolute()
        return InputFile(path.name, str(path), self._size_bytes, digest)

    def close(self) -> None:
        self.unhashed.close()
        super().close()
