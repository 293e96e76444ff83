"""Inputs that are small on disk and ask their reader for gigabytes, each made of parts as it is packed."""

from collections.abc import Callable, Iterator
from pathlib import Path

from queue_app.ingest.readers.compression import zstd

MIB = 1 << 20
Parts = Iterator[bytes]
LAST = b">last\nMKV\n"


def letters(letter: bytes, mib: int) -> Parts:
    """One record in lines of 60 letters, and a small one behind it."""
    yield b">first\n"
    for _ in range(mib):
        yield (letter * 60 + b"\n") * (MIB // 61)
    yield LAST


def ids(mib: int) -> Parts:
    """Ids of 10 kB."""
    for number in range(mib * 100):
        yield b">%d" % number + b"x" * 10_000 + b"\nMKV\n"
    yield LAST


def descriptions(mib: int) -> Parts:
    """As long as they may be."""
    for number in range(mib):
        yield b">%d " % number + b"x" * MIB + b"\nMKV\n"
    yield LAST


def quoted(mib: int) -> Parts:
    """A field of many lines."""
    yield b'id,seq\na,"'
    for _ in range(mib):
        yield (b"M" * 59 + b"\n") * (MIB // 60)
    yield b'"\nlast,MKV\n'


def fields(mib: int) -> Parts:
    """A row of tiny fields."""
    yield b"id,seq\na,MKV\n"
    for _ in range(mib):
        yield b"ab," * (MIB // 3)
    yield b"\n"


def rows(mib: int) -> Parts:
    """A row of many fields of many lines."""
    yield b"id,seq\na,MKV\n"
    for _ in range(mib):
        yield (b'"' + b"M\n" * 500 + b'",') * (MIB // 1003)
    yield b"\n"


def values(mib: int) -> Parts:
    """A record of JSON of empty objects, on one line."""
    yield b'{"id": "a", "seq": "MKV", "x": ['
    for _ in range(mib):
        yield b"{}," * (MIB // 3)
    yield b"{}]}\n"


def array(mib: int) -> Parts:
    """The same, as the element of an array."""
    yield b"["
    yield from values(mib)
    yield b"]"


def string(mib: int) -> Parts:
    """A string of JSON that does not end."""
    yield b'[{"id": "a", "seq": "'
    for _ in range(mib):
        yield b"M" * MIB
    yield b'"}]'


def nested(mib: int) -> Parts:
    yield b'{"id": "a", "seq": "MKV", "x": '
    for _ in range(mib):
        yield b"[" * MIB
    yield b"\n"


def line(mib: int) -> Parts:
    """A line without an end, whose first letter makes four bytes of each."""
    yield "🧬".encode()
    for _ in range(mib):
        yield b"M" * MIB


BOMBS: dict[str, Callable[[int], Parts]] = {
    "legal.fasta": lambda mib: letters(b"M", mib),
    "illegal.fasta": lambda mib: letters(b"1", mib),
    "wide.fasta": lambda mib: letters("🧬".encode(), mib // 4),
    "ids.fasta": ids,
    "descriptions.fasta": descriptions,
    "quoted.csv": quoted,
    "fields.csv": fields,
    "rows.csv": rows,
    "values.jsonl": values,
    "array.json": array,
    "string.json": string,
    "nested.jsonl": nested,
    "line.txt": line,
}


def write_bomb(name: str, mib: int, home: Path) -> Path:
    """The file of one, packed: so many MiB come out of it."""
    path = home / f"{name}.zst"
    packer = zstd.ZstdCompressor()
    with path.open("wb") as file:
        for part in BOMBS[name](mib):
            file.write(packer.compress(part))
        file.write(packer.flush())
    return path
