"""Small records: a flipped bit in any of them is damage, and never another format, token or job."""

from pathlib import Path

import lmdb
import pytest

from checkpoint import CheckpointStore, DoneRecord, QuarantineEntry, StoreDamaged
from checkpoint.schema import META, QUARANTINE, as_key, seal, unseal
from checkpoint.verify_child import look_through
from tests.support.blocks_and_stores import JOB, open_store

ALL = (b"format", b"sealed_format", b"job_digest", b"plan", b"token", b"uuid", b"done")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "00000.lmdb"
    with open_store(made, token=5) as store:
        store.commit([], token=5, quarantine=[QuarantineEntry(9, "b", 3, "NaN")])
        store.set_done(DoneRecord("f", "d", 640, 640), token=5)
    return made


def rewrite(path: Path, key: bytes, value: bytes | None, database: bytes = META) -> None:
    """Or remove, below the store's feet."""
    with lmdb.open(str(path), max_dbs=3) as environment:
        opened = environment.open_db(database, create=False)
        with environment.begin(write=True) as transaction:
            assert transaction.delete(key, db=opened)
            if value is not None:
                transaction.put(key, value, db=opened)


def written(path: Path, key: bytes, database: bytes = META) -> bytes:
    with lmdb.open(str(path), max_dbs=3, readonly=True, lock=False) as environment:
        opened = environment.open_db(database, create=False)
        with environment.begin() as transaction:
            return bytes(transaction.get(key, db=opened))


def flip(value: bytes, bit: int) -> bytes:
    return bytes(byte ^ (1 << bit % 8 if place == bit // 8 else 0) for place, byte in enumerate(value))


def test_what_was_sealed_comes_back() -> None:
    for content in (b"", b"2", bytes(1000)):
        assert unseal(b"key", seal(b"key", content)) == content


def test_every_bit_and_the_key_count() -> None:
    value = seal(b"key", b"content")
    for bit in range(8 * len(value)):
        with pytest.raises(StoreDamaged, match="b'key' is damaged"):
            unseal(b"key", flip(value, bit))
    for end in range(len(value)):
        with pytest.raises(StoreDamaged):
            unseal(b"key", value[:end])
    with pytest.raises(StoreDamaged):
        unseal(b"kez", value)


@pytest.mark.parametrize("key", ALL)
@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_is_damage_and_no_newer_format(path: Path, key: bytes, bit: int) -> None:
    rewrite(path, key, flip(written(path, key), bit))
    report = look_through(path, None)
    assert (report.readable, report.newer) == (False, False)
    assert "StoreDamaged" in str(report.error)


@pytest.mark.parametrize("key", [key for key in ALL if key != b"done"])
def test_a_missing_record_is_damage(path: Path, key: bytes) -> None:
    rewrite(path, key, None)
    assert not look_through(path, None).readable


@pytest.mark.parametrize("key", [b"format", b"sealed_format", b"job_digest", b"plan", b"token"])
def test_a_store_without_what_it_is_judged_by_is_not_opened(path: Path, key: bytes) -> None:
    rewrite(path, key, None)
    with pytest.raises(StoreDamaged):
        open_store(path, token=6).close()


def test_a_quarantine_entry_is_sealed_under_its_ordinal(path: Path) -> None:
    rewrite(path, as_key(9), seal(as_key(8), b"{}"), QUARANTINE)
    with CheckpointStore.open_readonly(path) as store, pytest.raises(StoreDamaged, match="is damaged"):
        store.quarantine()


def test_a_damaged_token_lets_nobody_write(path: Path) -> None:
    with open_store(path, token=6) as store:
        value = seal(b"token", b"5")[:-1] + b"?"
        with store._environment._lmdb.begin(write=True) as transaction:
            transaction.put(b"token", value, db=store._records.meta)
        with pytest.raises(StoreDamaged, match="token"):
            store.commit([], token=6)


def test_the_message_names_the_store(path: Path) -> None:
    rewrite(path, b"job_digest", JOB)
    with CheckpointStore.open_readonly(path) as store, pytest.raises(StoreDamaged, match=str(path)):
        store.job_digest()
