"""One input file as a checked stream of text: hashed as it is read, unpacked, guarded against the absurd.

What a parser reads is nothing until the end has been read: a truncated archive yields thousands of good
lines before it says so. Whoever reads must read to the end.
"""

import codecs
import contextlib
import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from queue_app.archives import ArchiveError, unpack
from queue_app.errors import InputError
from queue_app.job import InputFile

LINE_BYTES_MOST = 64 << 20
"""A longer line is no sequence and no text, but would fill the memory: 512 MiB hide in a small gzip."""
MAGIC_BYTES = 8
SHOWN_CHARACTERS = 40
BUFFER_BYTES = 1 << 20
UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
TAR_MAGIC, TAR_MAGIC_AT = b"ustar", 257
STANDARD_INPUT = Path("-")

Pairs = Iterator[tuple[str, str]]
"""(id, sequence) of every record, in the file's order."""


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
    """An input that is being read. `line` is about where; `file()` says what was read, once all was."""

    def __init__(self, source: Input) -> None:
        self.name = source.title
        self._raw = _Hashed(source)
        self.magic = self._raw.peek(MAGIC_BYTES)
        self._guarded = _Guarded(self.name, unpack(self._raw, self.magic))
        self.binary = _Shared(self._guarded, BUFFER_BYTES)

    @property
    def line(self) -> int:
        return self._guarded.num_lines + 1

    def text(self, *, newline: str | None = "\n") -> io.TextIOWrapper:
        """The stream as UTF-8. Lines end at \\n alone: \\x0b, \\x1c and U+2028 may stand in a text."""
        return io.TextIOWrapper(self.binary, encoding="utf-8-sig", newline=newline)

    def seekable(self) -> io.FileIO:
        """The file as it lies there, for what is read from its end; `file()` hashes it afterwards."""
        return self._raw.unhashed

    def file(self) -> InputFile:
        """What the file was; hashes what a parser left unread, too."""
        return self._raw.hash_to_the_end()

    def close(self) -> None:
        self._guarded.close()
        self._raw.close()


@contextlib.contextmanager
def open_source(source: Input) -> Iterator[Source]:
    """Open an input; whatever is wrong with it comes out as one InputError that names file and line."""
    opened = None
    try:
        opened = Source(source)
        yield opened
    except (ArchiveError, csv.Error) as error:
        where = f": near line {opened.line}" if opened else ""
        raise InputError(f"{source.title}{where}: {error}") from None
    except UnicodeDecodeError:
        raise InputError(
            f"{source.title}: line {_line_of_no_text(source)}: not UTF-8 text; "
            "convert it (iconv -f LATIN1 -t UTF-8), or is this a binary file?"
        ) from None
    except OSError as error:
        raise InputError(f"{source.title}: cannot be read: {error.strerror or error}") from None
    finally:
        if opened is not None:
            opened.close()


def _line_of_no_text(source: Input) -> int:
    """Found by reading again: what a parser reads ahead of is up to a megabyte."""
    with contextlib.closing(Source(source)) as again:
        lines = enumerate(again.binary, start=1)
        return next((number for number, line in lines if not _is_utf_8(line)), 1)


def _is_utf_8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def shown(text: str) -> str:
    """So much of it that it can be found in the file."""
    return repr(text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…")


def digest_file(source: Input) -> InputFile:
    """Hash one input without parsing it."""
    with open_source(source) as opened:
        return opened.file()


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


class _Guarded(io.RawIOBase):
    """Counts lines, and refuses what is no text: NUL bytes, and a line without end."""

    def __init__(self, name: str, inner: io.RawIOBase) -> None:
        self._name = name
        self._inner = inner
        self._line_bytes = 0
        self.num_lines = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._inner.read(len(memoryview(buffer))) or b""
        if (nul := data.find(b"\0")) >= 0:
            line = self.num_lines + data.count(b"\n", 0, nul) + 1
            raise InputError(f"{self._name}: line {line}: {_what_has_nuls(data)}")
        self._count(data)
        memoryview(buffer)[: len(data)] = data
        return len(data)

    def _count(self, data: bytes) -> None:
        newlines = data.count(b"\n")
        self.num_lines += newlines
        behind_last = len(data) - data.rfind(b"\n") - 1
        self._line_bytes = behind_last if newlines else self._line_bytes + len(data)
        if self._line_bytes > LINE_BYTES_MOST:
            line, most = self.num_lines + 1, LINE_BYTES_MOST >> 20
            raise InputError(f"{self._name}: line {line} is longer than {most} MiB; is this the right file?")

    def close(self) -> None:
        self._inner.close()
        super().close()


def _what_has_nuls(data: bytes) -> str:
    if data.startswith(UTF_16_MARKS):
        return "UTF-16; convert it (iconv -f UTF-16 -t UTF-8)"
    if data[TAR_MAGIC_AT:].startswith(TAR_MAGIC):
        return "a tar archive, which is not read: unpack it first"
    return "NUL bytes; this is a binary file"
