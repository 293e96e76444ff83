"""Small inputs of every format and kind of archive, and what a bad disk or malice makes of them."""

import random
import zipfile
from collections.abc import Callable
from io import BytesIO

from tests.support.input_files import PACKED, TEXTS
from tests.support.jobs_and_inputs import protein

RECORDS = [(f"p{number}", protein(number)) for number in range(6)]
PIR = b">P1;CRAB_ANAPL\nALPHA CRYSTALLIN.\n  MDITIHNPLI RRPLFSWLAP\n  SRIFDQIFGE*\n>P1;B\nBETA\nMKV*\nC;x\n"
JSON = (
    b'[{"id": "a", "sequence": "MKV", "x": [1, {"y": null}]}, {"id": 7, "sequence": "GLS", "x": 1.5e3}]',
    b'{"a": "MKV", "b": "GLS"}',
    b'{"a": {"sequence": "MKV"}, "b": {"sequence": "GLS"}}',
    b'["MKV", "GLS"]',
)
SIGNS = (
    b'"', b",", b"\t", b";", b"\n", b"\r", b"\r\n", b"\0", b"\x1b[31m", b">", b"@", b"+\n", b"#", b"*",
    b"{", b"}", b"[", b"]", b":", b"\\", b"\\u0000", b"\\ud800", b"null", b"1e999", b"-0", b"9" * 5000,
    b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xf0\x9f\xa7\xac", b"\xe2\x80\xa8", b"\x0b",
    b"\x1c", b"\x85", b"id", b"seq", b"sequence", b"text", b"description", b"embedding", b">P1;X\n",
    b"P12345", b"\x1f\x8b", b"BZh9", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"PK\x03\x04", b"PAR1", b"ARROW1",
    b"%PDF", b"\x50\x2a\x4d\x18\xff\xff\xff\xff", b"<?xml",
)  # fmt: skip
"""What means something to one of the readers, or is no text."""
ENDINGS = ("", ".json", ".pir", *TEXTS)
CHANGES = (1, 1, 1, 2, 3, 6)


def seed_inputs() -> dict[str, bytes]:
    """By the name of the file."""
    texts = {f"a{ending}": make(RECORDS) for ending, make in TEXTS.items()}
    texts |= {f"{number}.json": text for number, text in enumerate(JSON)}
    texts |= {
        "a.fa": PIR,
        "mac.fasta": texts["a.fasta"].replace(b"\n", b"\r"),
        "bom.csv": b"\xef\xbb\xbf" + texts["a.csv"],
    }
    texts |= {"a.zip": _zipped("a.fasta"), "a.xlsx": _zipped("xl/workbook.xml")}
    return texts


def changed_input(rng: random.Random) -> tuple[str, bytes]:
    """A file's name and its content: a seed, changed before it is packed, behind that, or both."""
    seeds = seed_inputs()
    name = rng.choice(sorted(seeds))
    data, kind = seeds[name], rng.choice(["", *PACKED])
    if rng.random() < 0.7:
        data = _changed(data, rng, seeds)
    if kind:
        data = PACKED[kind](data)
        if rng.random() < 0.2:
            data += PACKED[rng.choice([kind, "", ".gz"])](rng.choice([b"", b"x\n"])) * rng.choice([1, 3, 200])
    if kind and rng.random() < 0.6:
        data = _changed(data, rng, seeds)
    if rng.random() < 0.1:
        name = f"a{rng.choice(ENDINGS)}"
    return name + (kind if rng.random() < 0.9 else ""), data


def _changed(data: bytes, rng: random.Random, seeds: dict[str, bytes]) -> bytes:
    for _ in range(rng.choice(CHANGES)):
        data = rng.choice(_CHANGES)(data, rng)
    if rng.random() < 0.1:
        data += rng.choice(sorted(seeds.values()))
    return data


def _flip(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 4, 30])):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _drop(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + data[at + rng.choice([1, 2, 10, 100]) :]


def _insert(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice(SIGNS) * rng.choice([1, 1, 1, 2, 50, 3000]) + data[at:]


def _repeat(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    part = data[at : at + rng.choice([1, 7, 60])]
    return data[:at] + part * rng.choice([2, 20, 3000]) + data[at:]


def _replace(data: bytes, rng: random.Random) -> bytes:
    return data.replace(rng.choice(SIGNS), rng.choice(SIGNS[:20]), rng.choice([1, -1]))


_CHANGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _flip,
    _cut,
    _drop,
    _insert,
    _insert,
    _repeat,
    _replace,
)


def _zipped(member: str) -> bytes:
    with zipfile.ZipFile(file := BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, b">a\nMKV\n" * 50)
    return file.getvalue()
