"""What a fuzzer feeds to all that reads bytes of a store: whatever they are, only documented errors."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import xxhash

from checkpoint import BlockDamaged, NewerFormat, decode, encode
from checkpoint.block import read_header, read_ordinals
from checkpoint.records import DoneRecord, QuarantineEntry
from tests.support.blocks_and_stores import JOB, make_block, make_ragged

CORPUS = Path(__file__).resolve().parent / "corpus"
"""Inputs that reach different places of the readers; the first byte chooses which reader."""
UNREADABLE = (BlockDamaged, NewerFormat)


def look(data: bytes) -> None:
    """Raises what no caller is told to expect."""
    if data:
        READERS[data[0] % len(READERS)](data[1:])


def look_at_block(data: bytes) -> None:
    """A block that can be read is the one that was written."""
    try:
        block = decode(data)
    except UNREADABLE:
        return
    header = read_header(data)
    again = encode(block, header.job_digest)
    if again[: header.vectors_at] != data[: header.vectors_at]:
        # Only what stands between the ordinals and the vectors means nothing, and may differ.
        assert read_header(again) == header
        assert (read_ordinals(again) == read_ordinals(data)).all()


def look_at_sealed_block(data: bytes) -> None:
    """Behind the checksum: what was nonsense before it was sealed."""
    look_at_block(data + xxhash.xxh3_128_digest(data))


def look_at_header(data: bytes) -> None:
    for read in (read_header, read_ordinals):
        try:
            read(data)
        except UNREADABLE:
            continue


def look_at_records(data: bytes) -> None:
    for decoder in (QuarantineEntry.decode, DoneRecord.decode):
        try:
            decoder(data).encode()
        except ValueError:
            continue


READERS: tuple[Callable[[bytes], None], ...] = (
    look_at_block, look_at_sealed_block, look_at_header, look_at_records,
)  # fmt: skip


def seeds() -> dict[str, bytes]:
    """One sound input for each reader and kind of block, for a fuzzer to begin with."""
    even = make_block(3, count=2, dim=4)
    ragged = make_ragged(4, [7, 9], [np.ones((2, 4), np.float16), np.ones((0, 4), np.float16)])
    done = DoneRecord("00000-1.parquet", "ab" * 16, 2, 1, (QuarantineEntry(1, "x", 0, "empty sequence"),))
    whole = {"even": encode(even, JOB), "ragged": encode(ragged, JOB)}
    return {
        **{f"block-{name}": bytes([0]) + data for name, data in whole.items()},
        **{f"sealed-{name}": bytes([1]) + data[:-16] for name, data in whole.items()},
        **{f"header-{name}": bytes([2]) + data for name, data in whole.items()},
        "entry": bytes([3]) + done.quarantine[0].encode(),
        "done": bytes([3]) + done.encode(),
    }
