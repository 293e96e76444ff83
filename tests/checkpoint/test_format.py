"""FORMAT.md holds: what is built by hand from its words is read, old stores go on, newer ones are refused."""

import shutil
import struct
from pathlib import Path

import lmdb
import numpy as np
import pytest
import xxhash

import checkpoint.schema
from checkpoint import (
    Block,
    CheckpointStore,
    DoneRecord,
    NewerFormat,
    QuarantineEntry,
    StaleToken,
    StoreDamaged,
    decode,
    encode,
)
from checkpoint.process_identity import ProcessId, StoreOwner
from checkpoint.schema import META, QUARANTINE
from checkpoint.verify import verify_store
from tests.support.blocks_and_stores import JOB, assert_same, make_block, open_store

VERSION_1_STORE = Path(__file__).parent / "store-v1.mdb"
"""Written by the code that knew version 1 only: the batches of OLD, one quarantine entry, a done record."""

OLD = (
    make_block(0, count=3, dim=4),
    make_block(1, count=40, dim=16),
    Block(2, np.array([6, 6, 7], np.uint64), np.arange(12, dtype=np.float16).reshape(3, 4) / 2, True),
    Block(5, np.empty(0, np.uint64), np.empty((0, 4), np.float32)),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store of version 1 that was closed."""
    made = tmp_path / "00000.lmdb"
    made.mkdir()
    shutil.copy(VERSION_1_STORE, made / "data.mdb")
    (made / "started").touch()
    return made


def by_hand(head: tuple[int, ...], batch_idx: int, sizes: tuple[int, ...], *parts: bytes) -> bytes:
    """A block from the words of FORMAT.md alone: (version, flags, dtype), (dim, count, vectors)."""
    content = b"HFBLOCK\n" + struct.pack("<HHHH", *head, 0) + JOB
    content += struct.pack("<QQQQ", batch_idx, *sizes) + b"".join(parts)
    checksum = xxhash.xxh3_128(content, seed=0).intdigest()
    return content + checksum.to_bytes(16, "big")


def test_a_block_of_version_1_made_by_hand_is_read() -> None:
    data = by_hand((1, 1, 2), 9, (2, 3, 0), struct.pack("<3Q", 4, 4, 8), struct.pack("<6e", *range(6)))
    block = decode(data, job_digest=JOB, batch_idx=9)
    expected = np.arange(6, dtype=np.float16).reshape(3, 2)
    assert_same(block, Block(9, np.array([4, 4, 8], np.uint64), expected, True))


def test_a_block_made_by_hand_has_the_bytes_that_are_written() -> None:
    vectors = struct.pack("<6f", *range(6))
    data = by_hand((2, 0, 1), 9, (2, 3, 3), struct.pack("<3Q", 4, 5, 8), bytes(128 - 64 - 24), vectors)
    block = Block(9, np.array([4, 5, 8], np.uint64), np.arange(6, dtype=np.float32).reshape(3, 2))
    assert encode(block, JOB) == data
    assert_same(decode(data), block)


def test_a_ragged_block_made_by_hand_has_the_bytes_that_are_written() -> None:
    front = struct.pack("<3Q", 4, 5, 8) + struct.pack("<4Q", 0, 2, 2, 3)
    data = by_hand(
        (2, 3, 3), 9, (1, 3, 3), front, bytes(128 - 64 - 56), struct.pack("<3H", 0x3F80, 0, 0xC000)
    )
    bits = np.array([[0x3F80], [0], [0xC000]], np.uint16)
    block = Block.of_matrices(9, [4, 5, 8], [bits[:2], bits[:0], bits[2:]], split=True)
    assert encode(block, JOB) == data
    assert_same(decode(data), block)
    assert [matrix.shape for _, matrix in decode(data).matrices()] == [(2, 1), (0, 1), (1, 1)]
    assert decode(data).as_float32().tolist() == [[1.0], [0.0], [-2.0]]


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


# ---- older


def test_a_store_of_version_1_is_read_and_not_changed_by_it(path: Path) -> None:
    with CheckpointStore.open_readonly(path) as store:
        for found, expected in zip(store.blocks(), OLD, strict=True):
            assert_same(found, expected)
        assert (store.token(), store.num_rows()) == (7, 46)
        assert store.quarantine() == (QuarantineEntry(9, "b", 3, "NaN"),)
        assert store.done_record() == DoneRecord("00000-7.parquet", "ab" * 16, 3, 2)
    assert verify_store(path, job_digest=JOB).sound
    assert (path / "data.mdb").read_bytes() == VERSION_1_STORE.read_bytes()


def test_a_job_begun_with_version_1_goes_on_in_a_store_of_both_versions(path: Path) -> None:
    new = [make_block(3), Block.of_matrices(4, [90], [np.ones((3, 4), np.float32)])]
    with open_store(path, token=8) as store:
        assert store.committed() == {0, 1, 2, 5}
        store.commit(new, token=8)
    with open_store(path, token=9) as store:
        for found, expected in zip(store.blocks(), [*OLD[:3], *new, OLD[3]], strict=True):
            assert_same(found, expected)
        with store.snapshot() as snapshot:
            assert [header.version for header in snapshot.headers()] == [1, 1, 1, 2, 2, 1]
            np.testing.assert_array_equal(snapshot.find(6), OLD[2].embeddings[:2])


def test_a_store_of_version_1_is_sealed_when_it_is_opened_for_writing(path: Path) -> None:
    before = records_of(path, META), records_of(path, QUARANTINE)
    with open_store(path, token=8) as store:
        assert store.quarantine() == (QuarantineEntry(9, "b", 3, "NaN"),)
        assert store.done_record() == DoneRecord("00000-7.parquet", "ab" * 16, 3, 2)
    meta = {**before[0], b"token": b"8", b"sealed_format": b"2"}
    del meta[b"format"]
    assert records_of(path, META) == {b"format": b"2", **sealed_by_hand(meta)}
    assert records_of(path, QUARANTINE) == sealed_by_hand(before[1])
    assert verify_store(path, job_digest=JOB).sound


def test_a_fenced_owner_leaves_a_store_of_version_1_as_it_is(path: Path) -> None:
    before = records_of(path, META)
    with pytest.raises(StaleToken):
        open_store(path, token=6)
    assert records_of(path, META) == before


@pytest.mark.parametrize("place", [b'"ordinal"', b'"num_embedded"'])
def test_what_makes_no_sense_in_a_store_of_version_1_is_not_sealed(path: Path, place: bytes) -> None:
    data = path / "data.mdb"
    data.write_bytes(data.read_bytes().replace(place, place.replace(b"n", b"m")))
    with pytest.raises(StoreDamaged):
        open_store(path, token=8)
    assert records_of(path, META)[b"format"] == b"1"
    assert (path / "owner.json").exists()
    with open_store(path, token=9) as store:
        assert store.committed() == set()
    assert path.with_name("00000.lmdb.damaged-1").is_dir()


def test_a_store_of_version_1_that_was_not_closed_is_verified_and_goes_on(path: Path) -> None:
    StoreOwner(StoreOwner.current(7).host_key, ProcessId(2**22 + 1, 1), 7).write(path / "owner.json")
    with open_store(path, token=8) as store:
        assert store.committed() == {0, 1, 2, 5}


def test_a_store_that_was_opened_for_writing_is_closed_to_older_readers(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_store(path, token=8):
        pass
    monkeypatch.setattr(checkpoint.schema, "FORMAT_VERSION", 1)
    with pytest.raises(NewerFormat, match="format 2 is newer than 1"):
        open_store(path, token=9)


# ---- newer


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
        with pytest.raises(NewerFormat, match="block version 3"):
            list(store.scan())
        with pytest.raises(NewerFormat, match="block version"):
            store.num_rows()
    (path / "owner.json").write_text("{}")
    with pytest.raises(NewerFormat, match="block version 3"):
        open_store(path, token=9)


def test_a_format_that_is_none_is_damage(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("checkpoint.store.FORMAT_VERSION", "two")
        open_store(path, token=8).close()
    with pytest.raises(StoreDamaged, match="there is no format"):
        open_store(path, token=9)
