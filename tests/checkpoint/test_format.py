"""FORMAT.md holds: what is built by hand from its words is read, other formats are refused by name."""

import struct
from pathlib import Path

import lmdb
import numpy as np
import pytest
import xxhash

from checkpoint import (
    Block,
    CheckpointStore,
    Kind,
    NewerFormat,
    QuarantineEntry,
    StoreDamaged,
    decode,
    encode,
)
from checkpoint.schema import META, QUARANTINE
from tests.support.blocks_and_stores import JOB, assert_same, make_block, make_ragged, open_store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store that was closed."""
    made = tmp_path / "00000.lmdb"
    with open_store(made, token=7) as store:
        store.commit([make_block(0)], token=7)
    return made


def by_hand(head: tuple[int, ...], batch_idx: int, sizes: tuple[int, ...], *parts: bytes) -> bytes:
    """A block from the words of FORMAT.md alone: (version, flags, dtype), (dim, count, vectors)."""
    content = b"HFBLOCK\n" + struct.pack("<HHHH", *head, 0) + JOB
    content += struct.pack("<QQQQ", batch_idx, *sizes) + b"".join(parts)
    checksum = xxhash.xxh3_128(content, seed=0).intdigest()
    return content + checksum.to_bytes(16, "big")


def test_a_block_made_by_hand_has_the_bytes_that_are_written() -> None:
    vectors = struct.pack("<6f", *range(6))
    data = by_hand((2, 0, 1), 9, (2, 3, 3), struct.pack("<3Q", 4, 5, 8), bytes(128 - 64 - 24), vectors)
    block = Block(9, np.array([4, 5, 8], np.uint64), np.arange(6, dtype=np.float32).reshape(3, 2))
    assert encode(block, JOB) == data
    assert_same(decode(data), block)


def test_a_ragged_block_made_by_hand_has_the_bytes_that_are_written() -> None:
    front = struct.pack("<3Q", 4, 5, 8) + struct.pack("<4Q", 0, 2, 2, 3)
    rows = np.array([[1], [0], [-2]], np.float16)
    data = by_hand((2, 3, 2), 9, (1, 3, 3), front, bytes(128 - 64 - 56), rows.tobytes())
    block = make_ragged(9, [4, 5, 8], [rows[:2], rows[:0], rows[2:]], split=True)
    assert encode(block, JOB) == data
    assert_same(decode(data), block)
    assert [matrix.shape for _, matrix in decode(data).matrices()] == [(2, 1), (0, 1), (1, 1)]


def records_of(path: Path, database: bytes) -> dict[bytes, bytes]:
    with lmdb.open(str(path), max_dbs=3, readonly=True, lock=False) as environment:
        opened = environment.open_db(database, create=False)
        with environment.begin() as transaction:
            return dict(transaction.cursor(db=opened))


def sealed_by_hand(records: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Content with its seal, from the words of FORMAT.md alone."""
    seals = {key: xxhash.xxh3_128(key + content, seed=0).intdigest() for key, content in records.items()}
    return {key: content + seals[key].to_bytes(16, "big") for key, content in records.items()}


def test_small_records_are_sealed_as_it_says(tmp_path: Path) -> None:
    with open_store(tmp_path, token=12) as store:
        store.commit([], token=12, quarantine=[QuarantineEntry(9, "b", 3, "NaN")])
    found = records_of(tmp_path, META)
    assert found.pop(b"format") == b"2"
    uuid = found[b"uuid"][:32]
    expected = {
        b"sealed_format": b"2", b"job_digest": JOB, b"plan": b"plan-1", b"token": b"12", b"uuid": uuid
    }  # fmt: skip
    assert found == sealed_by_hand(expected)
    entry = b'{"ordinal": 9, "id": "b", "length": 3, "reason": "NaN"}'
    assert records_of(tmp_path, QUARANTINE) == sealed_by_hand({struct.pack(">Q", 9): entry})


def test_what_computed_the_blocks_stands_there_as_it_says(tmp_path: Path) -> None:
    with open_store(tmp_path, kind=Kind("NVIDIA H200", "2.13.0", "bfloat16")) as store:
        store.commit([make_block(0)], token=1)
    kinds = b'[{"device": "NVIDIA H200", "torch": "2.13.0", "dtype": "bfloat16"}]'
    assert sealed_by_hand({b"kinds": kinds}).items() <= records_of(tmp_path, META).items()


# ---- other formats


def test_a_store_of_format_1_is_none_that_is_known(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("checkpoint.store.FORMAT_VERSION", 1)
        open_store(path, token=8).close()
    with pytest.raises(StoreDamaged, match="there is no format b'1'"):
        CheckpointStore.open_readonly(path)
    with pytest.raises(StoreDamaged, match="there is no format b'1'"):
        open_store(path, token=9)


@pytest.fixture
def newer(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a version that is yet to come has left."""
    with monkeypatch.context() as patch:
        patch.setattr("checkpoint.store.FORMAT_VERSION", 3)
        open_store(path, token=8).close()
    return path


def test_a_newer_store_is_refused_by_name(newer: Path) -> None:
    with pytest.raises(NewerFormat, match="format 3 is newer than 2"):
        open_store(newer, token=9)
    with pytest.raises(NewerFormat, match="format 3 is newer than 2"):
        CheckpointStore.open_readonly(newer)


def test_a_newer_store_that_was_not_closed_is_not_taken_for_damaged(newer: Path) -> None:
    (newer / "owner.json").write_text("{}")
    with pytest.raises(NewerFormat, match="format 3 is newer than 2"):
        open_store(newer, token=9)
    assert [entry.name for entry in newer.parent.iterdir()] == [newer.name]


def test_a_newer_block_is_neither_damage_nor_dropped(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_store(path, token=8) as store:
        with monkeypatch.context() as patch:
            patch.setattr("checkpoint.block.VERSION", 3)
            store.commit([make_block(3)], token=8)
        with pytest.raises(NewerFormat, match="block version 3"), store.snapshot() as snapshot:
            list(snapshot.scan())
        with pytest.raises(NewerFormat, match="block version 3"):
            store.committed_ordinals()
    (path / "owner.json").write_text("{}")
    with pytest.raises(NewerFormat, match="block version 3"):
        open_store(path, token=9)


def test_a_format_that_is_none_is_damage(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("checkpoint.store.FORMAT_VERSION", "two")
        open_store(path, token=8).close()
    with pytest.raises(StoreDamaged, match="there is no format"):
        open_store(path, token=9)
