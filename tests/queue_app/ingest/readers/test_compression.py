"""Packed inputs: whole to their checked end, or refused; never a part of one."""

import bz2
import gzip
import io
import lzma
import struct
from pathlib import Path

import pytest

from queue_app.errors import InputError
from queue_app.ingest.readers import compression
from queue_app.ingest.readers.bounds.limits import DEFAULT, Limits
from queue_app.ingest.readers.compression import zstd
from queue_app.ingest.readers.sources import Input, open_source
from tests.support.input_files import PACKED

KINDS = [ending for ending in PACKED if ending]
LINES = b"".join(b"line %d\n" % number for number in range(3000))


def read(path: Path, limits: Limits = DEFAULT) -> bytes:
    with open_source(Input(path, path), limits) as source:
        return source.binary.read()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.txt"


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_is_told_by_its_bytes_and_read_whole(path: Path, kind: str) -> None:
    path.write_bytes(PACKED[kind](LINES))
    assert read(path) == LINES


@pytest.mark.parametrize("kind", KINDS)
def test_joined_archives_are_all_read_empty_ones_and_padding_among_them(path: Path, kind: str) -> None:
    pack = PACKED[kind]
    path.write_bytes(pack(b"one\n") + pack(b"") + bytes(8) + pack(LINES) + pack(b"") + bytes(4))
    assert read(path) == b"one\n" + LINES


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_that_is_cut_off_anywhere_is_refused(path: Path, kind: str) -> None:
    packed = PACKED[kind](LINES)
    for length in {*range(8, len(packed), 97), *range(len(packed) - 12, len(packed))}:
        path.write_bytes(packed[:length])
        with pytest.raises(InputError, match=r"a\.txt: near line \d+: the \w+ archive is cut off"):
            read(path)


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_with_a_wrong_byte_is_refused(path: Path, kind: str) -> None:
    packed = bytearray(PACKED[kind](LINES))
    packed[len(packed) // 2] ^= 0x55
    path.write_bytes(packed)
    with pytest.raises(InputError, match=r"a\.txt: near line \d+: the \w+ archive is .*damaged"):
        read(path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("behind", [b"garbage", b"\1", b"\0\0\0\0garbage"])
def test_what_follows_an_archive_is_never_passed_over(path: Path, kind: str, behind: bytes) -> None:
    """The standard library takes such an end of bzip2 and xz for the end of the file."""
    path.write_bytes(PACKED[kind](LINES) + behind)
    with pytest.raises(InputError, match="archive is"):
        read(path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_second_stream_is_not_the_end(path: Path, kind: str) -> None:
    second = bytearray(PACKED[kind](LINES))
    second[2] ^= 0x55
    path.write_bytes(PACKED[kind](b"one\n") + second)
    with pytest.raises(InputError, match="archive is"):
        read(path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_line_without_end_is_refused_before_it_fills_the_memory(
    path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("queue_app.ingest.readers.bounds.limits.LINE_BYTES_LEAST", 1 << 20)
    path.write_bytes(PACKED[kind](b"one\n" + b"A" * (3 << 20)))
    with pytest.raises(InputError, match="line 2 is longer than 1 MiB"):
        read(path, Limits(record=1))


def test_frames_that_zstandard_skips_are_skipped(path: Path) -> None:
    skipped = struct.pack("<II", 0x184D2A50, 3) + b"abc"
    path.write_bytes(skipped + zstd.compress(LINES) + skipped)
    assert read(path) == LINES


def test_xz_that_asks_for_absurd_memory_is_refused_with_the_option(path: Path) -> None:
    path.write_bytes(lzma.compress(LINES))
    with pytest.raises(InputError, match=r"the xz archive refers back over more than 1 MiB: --limit window="):
        read(path, Limits(window=1 << 20))


def test_the_best_that_each_compressor_can_do_is_read(path: Path) -> None:
    for packed in (
        bz2.compress(LINES, 9),
        lzma.compress(LINES, preset=9 | lzma.PRESET_EXTREME),
        gzip.compress(LINES, 9),
        zstd.compress(LINES, 19),
    ):
        path.write_bytes(packed)
        assert read(path) == LINES


@pytest.mark.parametrize("window_log", [28, 31])
def test_zstandard_with_a_long_window_is_read(path: Path, window_log: int) -> None:
    """As `zstd --long` writes it: its window is memory, and so it is asked for, as zstd itself wants it."""
    compressor = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: window_log})
    path.write_bytes(compressor.compress(LINES) + compressor.flush())
    with pytest.raises(
        InputError, match=r"the zstd archive .* over more than 128 MiB: --limit window=2147483648"
    ):
        read(path)
    assert read(path, Limits(window=1 << 31)) == LINES


# ---- what no archive asks for


@pytest.mark.parametrize("kind", KINDS)
def test_empty_streams_without_end_are_refused_as_fast_as_they_are_read(
    path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them left a copy of all that stood behind it."""
    monkeypatch.setattr(compression, "EMPTY_STREAMS_MOST", 20_000)
    streams = PACKED[kind](b"")
    path.write_bytes(streams * 20_000 + PACKED[kind](b"one\n"))
    assert read(path) == b"one\n"
    path.write_bytes(streams * 20_002 + PACKED[kind](b"one\n"))
    with pytest.raises(InputError, match="archive has 20,000 empty streams in a row"):
        read(path)


def test_what_a_tiny_stream_leaves_unused_is_not_copied_for_each(path: Path) -> None:
    """Counted, not timed: what goes into the library is a small part more than what the archive has."""
    given = 0

    class Counted:
        def __init__(self) -> None:
            self.stream = zstd.ZstdDecompressor()

        def __getattr__(self, name: str) -> object:
            return getattr(self.stream, name)

        def decompress(self, data: bytes, most: int) -> bytes:
            nonlocal given
            given += len(data)
            return self.stream.decompress(data, most)

    kind = compression._Kind("zstd", (b"",), lambda _: Counted())  # type: ignore[arg-type, return-value]
    frames = zstd.compress(b"") * 5_000
    streams = compression._Streams(io.BytesIO(frames), kind, DEFAULT)  # type: ignore[arg-type]
    assert streams.read(1) == b""
    assert given <= 5_000 * 1024


def test_an_archive_out_of_which_absurdly_much_comes_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compression, "FREE_BYTES", 1 << 20)
    path.write_bytes(zstd.compress((b"A" * 60 + b"\n") * 100_000))
    with pytest.raises(
        InputError, match="more than 1,000 bytes came out of each byte: --limit expansion=2000"
    ):
        read(path)
    assert len(read(path, Limits(expansion=1_000_000))) == 6_100_000
