"""One input file as a checked stream of text: hashed as it is read, unpacked, guarded against the absurd.

What a parser reads is nothing until the end has been read: a truncated gzip yields thousands of good
lines before it says so. Whoever reads must read to the end.
"""

import contextlib
import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dnaio
import xxhash

from queue_app.errors import InputError
from queue_app.job import InputFile

LINE_BYTES_MOST = 64 << 20
"""A longer line is no sequence and no text, but would fill the memory: 512 MiB hide in a small gzip."""
GZIP_MAGIC = b"\x1f\x8b"
BUFFER_BYTES = 1 << 20


class Source:
    """An input that is being read. `line` is about where; `file()` says what was read, once all was."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._raw = _Hashed(path)
        packed = self._raw.peek_magic() == GZIP_MAGIC
        inner = gzip.GzipFile(fileobj=self._raw, mode="rb") if packed else self._raw
        self._guarded = _Guarded(path, inner)
        self.binary = _Shared(self._guarded, BUFFER_BYTES)

    @property
    def line(self) -> int:
        return self._guarded.num_lines + 1

    def text(self, *, newline: str = "\n") -> io.TextIOWrapper:
        """The stream as UTF-8. Lines end at \\n alone: \\x0b, \\x1c and U+2028 may stand in a text."""
        return io.TextIOWrapper(self.binary, encoding="utf-8-sig", newline=newline)

    def file(self) -> InputFile:
        """What the file was; hashes what a parser left unread, too."""
        while self._raw.read(BUFFER_BYTES):
            pass
        return self._raw.file()

    def close(self) -> None:
        self._guarded.close()
        self._raw.close()


@contextlib.contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """Open an input; whatever is wrong with it comes out as one InputError that names file and line."""
    source = None
    try:
        source = Source(path)
        yield source
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(_at(source, path, f"the gzip file is cut off or damaged ({error})")) from None
    except UnicodeDecodeError:
        raise InputError(_at(source, path, "not UTF-8 text; is this a binary file?")) from None
    except csv.Error as error:
        raise InputError(_at(source, path, str(error))) from None
    except dnaio.FileFormatError as error:
        raise InputError(f"{path}: {error}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    finally:
        if source is not None:
            source.close()


def _at(source: Source | None, path: Path, what: str) -> str:
    return f"{path}: near line {source.line if source else 1}: {what}"


def digest_file(path: Path) -> InputFile:
    """Hash one input without parsing it."""
    with open_source(path) as source:
        raw = source._raw
        while raw.read(BUFFER_BYTES):
            pass
        return raw.file()


class _Shared(io.BufferedReader):
    """Stays open when the text wrapper of a parser that is done with it closes it."""

    def close(self) -> None:
        pass


class _Hashed(io.RawIOBase):
    """The raw bytes of a file, hashed as they pass."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("rb", buffering=0)
        self._state = xxhash.xxh3_128()
        self._size_bytes = 0

    def peek_magic(self) -> bytes:
        magic = self._file.read(2) or b""
        self._file.seek(0)
        return magic

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._file.readinto(buffer) or 0
        self._state.update(memoryview(buffer)[:count])
        self._size_bytes += count
        return count

    def file(self) -> InputFile:
        path = self._path.absolute()
        return InputFile(path.name, str(path), self._size_bytes, self._state.hexdigest())

    def close(self) -> None:
        self._file.close()
        super().close()


class _Guarded(io.RawIOBase):
    """Counts lines, and refuses what is no text: NUL bytes, and a line without end."""

    def __init__(self, path: Path, inner: io.RawIOBase | gzip.GzipFile) -> None:
        self._path = path
        self._inner = inner
        self._line_bytes = 0
        self.num_lines = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._inner.read(len(memoryview(buffer))) or b""
        if b"\0" in data:
            raise InputError(
                f"{self._path}: near line {self.num_lines + 1}: NUL bytes; this is a binary file"
            )
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
            raise InputError(f"{self._path}: line {line} is longer than {most} MiB; is this the right file?")

    def close(self) -> None:
        self._inner.close()
        super().close()
