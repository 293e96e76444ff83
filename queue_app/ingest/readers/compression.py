"""Archives: gzip, bzip2, xz and Zstandard, told by their first bytes and unpacked while they are read.

Nothing behind a damaged place is ever taken for the end: an archive is read through every one of its
streams to the checked end of the last, or `ArchiveError` is raised. The standard library's own readers of
bzip2 and xz drop a damaged second stream in silence.
"""

import bz2
import io
import lzma
import re
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from queue_app.ingest.readers.bounds.limits import DEFAULT, OPTION, Limits

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ENDINGS = (".gz", ".bgz", ".bz2", ".xz", ".zst")
MAGIC_BYTES = 6
_CHUNK_BYTES = 256 << 10
_FIRST_BYTES = 1 << 10
"""What a new stream is given first: what it leaves unused is copied, for each of thousands of tiny ones."""
EMPTY_STREAMS_MOST = 100_000
"""In a row: more of them are no archive that anybody made to keep something."""
FREE_BYTES = 1 << 30
"""So much may come out of however few bytes."""


class ArchiveError(Exception):
    """Raised when an archive is cut off or damaged, or asks for too much."""


class Reader(Protocol):
    """What bytes are read from; none are given at the end alone."""

    def read(self, most: int, /) -> bytes | None: ...


class Stream(Protocol):
    """One compressed stream, as bz2, lzma and zstd unpack it."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Member:
    """One member of a gzip archive as the others' streams are; zlib compares its checksum and its length."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(16 + zlib.MAX_WBITS)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def unused_data(self) -> bytes:
        return self._inflate.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        unpacked = self._inflate.decompress(self._inflate.unconsumed_tail + data, max(max_length, 0))
        # What was cut at the length may go on in zlib's own window, with no input left.
        self.needs_input = not self._inflate.unconsumed_tail and len(unpacked) != max_length
        return unpacked


@dataclass(frozen=True, slots=True)
class _Kind:
    title: str
    magics: tuple[bytes, ...]
    start: Callable[[Limits], Stream]


def _zstd_stream(limits: Limits) -> Stream:
    window_log = min(max((limits.window - 1).bit_length(), 10), 31)
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: window_log})


# Parallel compressors of Zstandard begin with one of sixteen kinds of frame that readers skip.
_ZSTD_MAGICS = (b"\x28\xb5\x2f\xfd", *(bytes([0x50 + number]) + b"\x2a\x4d\x18" for number in range(16)))
_KINDS = (
    _Kind("gzip", (b"\x1f\x8b",), lambda _: _Member()),
    _Kind("bzip2", (b"BZh",), lambda _: bz2.BZ2Decompressor()),
    _Kind("xz", (b"\xfd7zXZ\0",), lambda limits: lzma.LZMADecompressor(lzma.FORMAT_XZ, limits.window)),
    _Kind("zstd", _ZSTD_MAGICS, _zstd_stream),
)
_UNREAD = {
    b"7z\xbc\xaf\x27\x1c": "7z archive",
    b"\x04\x22\x4d\x18": "LZ4 archive",
    b"\x1f\x9d": "compress (.Z) archive",
}
_NO_ZERO = re.compile(rb"[^\0]")
_WINDOW_MOST = 1 << 31
_WANTS_MORE = ("Memory usage limit", "too much memory", "window")
"""What lzma and zstd say of a stream whose reader would have to keep more than it may."""


def unpack(raw: io.RawIOBase, magic: bytes, limits: Limits = DEFAULT) -> Reader:
    """What an archive holds, or `raw` itself; `magic` is its first MAGIC_BYTES, which are yet to be read.

    Raises:
        ArchiveError: an archive of a kind that is not read.
    """
    for start, title in _UNREAD.items():
        if magic.startswith(start):
            raise ArchiveError(f"a {title}, which is not read: unpack it first")
    for kind in _KINDS:
        if magic.startswith(kind.magics):
            return _Streams(raw, kind, limits)
    return raw


class _Streams:
    """The streams of an archive one after another. Zeros may stand behind each, as xz pads with them."""

    def __init__(self, raw: io.RawIOBase, kind: _Kind, limits: Limits) -> None:
        self._raw = raw
        self._kind = kind
        self._limits = limits
        self._chunk, self._at = b"", 0
        self._num_packed = self._num_unpacked = self._num_empty = 0
        self._begin()

    def read(self, most: int, /) -> bytes:
        data = b""
        while not data:
            if self._stream.eof and not self._start_next():
                return b""
            data = self._unpack(self._input() if self._stream.needs_input else b"", most)
        self._num_empty = 0
        self._num_unpacked += len(data)
        self._refuse_expansion()
        return data

    def _begin(self) -> None:
        self._stream = self._kind.start(self._limits)
        self._wanted_bytes = _FIRST_BYTES

    def _start_next(self) -> bool:
        self._at -= len(self._stream.unused_data)
        if not self._skip_zeros():
            return False
        self._num_empty += 1
        if self._num_empty > EMPTY_STREAMS_MOST:
            raise ArchiveError(
                f"the {self._kind.title} archive has {EMPTY_STREAMS_MOST:,} empty streams in a row"
            )
        self._begin()
        return True

    def _skip_zeros(self) -> bool:
        """False where nothing stands behind them."""
        while True:
            if self._at == len(self._chunk) and not self._read_chunk():
                return False
            behind = _NO_ZERO.search(self._chunk, self._at)
            self._at = behind.start() if behind else len(self._chunk)
            if behind:
                return True

    def _input(self) -> bytes:
        if self._at == len(self._chunk) and not self._read_chunk():
            raise ArchiveError(f"the {self._kind.title} archive is cut off")
        packed = self._chunk[self._at : self._at + self._wanted_bytes]
        self._at += len(packed)
        self._wanted_bytes = min(2 * self._wanted_bytes, _CHUNK_BYTES)
        return packed

    def _read_chunk(self) -> bool:
        self._chunk, self._at = self._raw.read(_CHUNK_BYTES) or b"", 0
        self._num_packed += len(self._chunk)
        return bool(self._chunk)

    def _unpack(self, packed: bytes, most: int) -> bytes:
        try:
            return self._stream.decompress(packed, most)
        except (
            OSError,
            EOFError,
            ValueError,
            MemoryError,
            zlib.error,
            lzma.LZMAError,
            zstd.ZstdError,
        ) as error:
            raise ArchiveError(self._why(str(error))) from None

    def _why(self, error: str) -> str:
        if any(words in error for words in _WANTS_MORE):
            most = self._limits.window >> 20
            return (
                f"the {self._kind.title} archive refers back over more than {most:,} MiB: {OPTION} "
                f"window={_WINDOW_MOST} reads it, and takes as much memory"
            )
        return f"the {self._kind.title} archive is cut off or damaged ({error})"

    def _refuse_expansion(self) -> None:
        if self._num_unpacked > max(FREE_BYTES, self._limits.expansion * self._num_packed):
            what = self._limits.more_than("expansion", "bytes came out of each byte")
            raise ArchiveError(f"the {self._kind.title} archive is no real data: {what}")
