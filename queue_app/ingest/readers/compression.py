"""Archives: gzip, bzip2, xz and Zstandard, told by their first bytes and unpacked while they are read.

Nothing behind a damaged place is ever taken for the end: an archive is read through every one of its
streams to the checked end of the last, or `ArchiveError` is raised. The standard library's own readers of
bzip2 and xz drop a damaged second stream in silence.
"""

import bz2
import gzip
import io
import lzma
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ENDINGS = (".gz", ".bgz", ".bz2", ".xz", ".zst")
MAGIC_BYTES = 6
XZ_MEMORY_BYTES = 512 << 20
"""`xz -9` wants 65 MiB; a damaged or a hostile header may ask for gigabytes."""
_ZSTD_OPTIONS: dict[int, int] = {zstd.DecompressionParameter.window_log_max: 31}
"""`zstd --long=31` packs large corpora so: up to 2 GiB, of which no more is touched than is unpacked."""
_CHUNK_BYTES = 256 << 10


class ArchiveError(Exception):
    """Raised when an archive is cut off or damaged."""


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


@dataclass(frozen=True, slots=True)
class _Kind:
    title: str
    magics: tuple[bytes, ...]
    start: Callable[[], Stream]


_GZIP_MAGIC = b"\x1f\x8b"
# Parallel compressors of Zstandard begin with one of sixteen kinds of frame that readers skip.
_ZSTD_MAGICS = (b"\x28\xb5\x2f\xfd", *(bytes([0x50 + number]) + b"\x2a\x4d\x18" for number in range(16)))
_KINDS = (
    _Kind("bzip2", (b"BZh",), bz2.BZ2Decompressor),
    _Kind("xz", (b"\xfd7zXZ\0",), lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, XZ_MEMORY_BYTES)),
    _Kind("zstd", _ZSTD_MAGICS, lambda: zstd.ZstdDecompressor(options=_ZSTD_OPTIONS)),
)
_UNREAD = {
    b"7z\xbc\xaf\x27\x1c": "7z archive",
    b"\x04\x22\x4d\x18": "LZ4 archive",
    b"\x1f\x9d": "compress (.Z) archive",
}


def unpack(raw: io.RawIOBase, magic: bytes) -> Reader:
    """What an archive holds, or `raw` itself; `magic` is its first MAGIC_BYTES, which are yet to be read.

    Raises:
        ArchiveError: an archive of a kind that is not read.
    """
    for start, title in _UNREAD.items():
        if magic.startswith(start):
            raise ArchiveError(f"a {title}, which is not read: unpack it first")
    if magic.startswith(_GZIP_MAGIC):
        return _Gzip(fileobj=raw, mode="rb")
    for kind in _KINDS:
        if magic.startswith(kind.magics):
            return _Streams(raw, kind)
    return raw


class _Gzip(gzip.GzipFile):
    """Python's own reader is strict here: behind the last member it allows zeros and nothing else."""

    def read(self, size: int | None = -1) -> bytes:
        try:
            return super().read(size)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ArchiveError(f"the gzip archive is cut off or damaged ({error})") from None


class _Streams:
    """The streams of an archive one after another. Zeros may stand behind each, as xz pads with them."""

    def __init__(self, raw: io.RawIOBase, kind: _Kind) -> None:
        self._raw = raw
        self._kind = kind
        self._stream = kind.start()
        self._packed = b""

    def read(self, most: int, /) -> bytes:
        data = b""
        while not data:
            if self._stream.eof and not self._start_next():
                return b""
            data = self._unpack(self._input() if self._stream.needs_input else b"", most)
        return data

    def _start_next(self) -> bool:
        self._packed = self._stream.unused_data.lstrip(b"\0")
        while not self._packed:
            chunk = self._raw.read(_CHUNK_BYTES)
            if not chunk:
                return False
            self._packed = chunk.lstrip(b"\0")
        self._stream = self._kind.start()
        return True

    def _input(self) -> bytes:
        packed = self._packed or self._raw.read(_CHUNK_BYTES)
        self._packed = b""
        if not packed:
            raise ArchiveError(f"the {self._kind.title} archive is cut off")
        return packed

    def _unpack(self, packed: bytes, most: int) -> bytes:
        try:
            return self._stream.decompress(packed, most)
        except (OSError, lzma.LZMAError, zstd.ZstdError) as error:
            raise ArchiveError(f"the {self._kind.title} archive is damaged ({error})") from None
