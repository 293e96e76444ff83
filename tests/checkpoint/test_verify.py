"""Looking at damaged stores without dying of it."""

import random
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest

import checkpoint.verify
from checkpoint import BlockDamaged, CheckpointStore, DoneRecord, StoreDamaged
from checkpoint.verify import verify_store
from tests.support.blocks_and_stores import JOB, damage_block, make_block, open_store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "00000.lmdb"
    with open_store(made, token=5) as store:
        store.commit([make_block(index, count=64, dim=64) for index in range(10)], token=5)
        store.set_done(DoneRecord("f", "d", 640, 640), token=5)
    return made


def test_a_sound_store_is_reported_sound(path: Path) -> None:
    report = verify_store(path, job_digest=JOB)
    assert report.sound
    assert (report.num_blocks, report.num_rows, report.token, report.done_file) == (10, 640, 5, "f")


def test_one_flipped_bit_is_one_damaged_batch(path: Path) -> None:
    damage_block(path, 7)
    report = verify_store(path)
    assert report.readable
    assert report.damaged == (7,)


def test_blocks_of_another_job_are_damage(path: Path) -> None:
    assert verify_store(path, job_digest=bytes(16)).damaged == tuple(range(10))


@pytest.mark.parametrize("seed", range(12))
def test_no_damage_kills_the_one_who_asks(path: Path, seed: int) -> None:
    """Whole pages of noise: LMDB may raise, abort or fault in the child; we get a report."""
    data = path / "data.mdb"
    content = bytearray(data.read_bytes())
    rng = random.Random(seed)
    for _ in range(4):
        page = 4096 * rng.randrange(2, len(content) // 4096)
        content[page : page + 4096] = rng.randbytes(4096)
    data.write_bytes(content)
    assert not verify_store(path).sound


def test_a_store_with_broken_pages_is_set_aside_and_begun_anew(path: Path) -> None:
    data = path / "data.mdb"
    content = bytearray(data.read_bytes())
    content[2 * 4096 :] = b"\xff" * (len(content) - 2 * 4096)
    data.write_bytes(content)
    (path / "owner.json").write_text("{}")
    with open_store(path, token=6) as store:
        assert store.committed() == set()
        assert store.done_record() is None
    assert path.with_name("00000.lmdb.damaged-1").is_dir()


def test_a_look_that_never_ends_finds_the_store_unreadable(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint.verify, "SECONDS_AT_MOST", 0.001)
    report = verify_store(path)
    assert not report.readable
    assert "no end" in str(report.error)


# ---- damage that only its owner meets


def break_root(path: Path) -> None:
    """The main tree's, in both meta pages: LMDB maps such a file and finds nothing that it knows in it."""
    data = path / "data.mdb"
    content = bytearray(data.read_bytes())
    for start in (0, 4096):
        content[start + 128 : start + 136] = (3).to_bytes(8, "little")
    content[3 * 4096 : 4 * 4096] = bytes(4096)
    data.write_bytes(content)


def damage_token(path: Path) -> None:
    data = path / "data.mdb"
    data.write_bytes(data.read_bytes().replace(b"token5", b"token4"))


def count_a_free_page_less(path: Path) -> None:
    """No reader looks there."""
    data = path / "data.mdb"
    content = bytearray(data.read_bytes())
    newest = max((0, 4096), key=lambda start: content[start + 144 : start + 152][::-1])
    page = 4096 * int.from_bytes(content[newest + 80 : newest + 88], "little")
    content[page + int.from_bytes(content[page + 16 : page + 18], "little") + 16] -= 1
    data.write_bytes(content)


def rename_a_database(path: Path) -> None:
    """An owner that makes what is missing would cover it with an empty one."""
    data = path / "data.mdb"
    data.write_bytes(data.read_bytes().replace(b"quarantine", b"quarantinf"))


@pytest.mark.parametrize("damage", [break_root, damage_token, count_a_free_page_less, rename_a_database])
def test_a_closed_store_that_fails_its_owner_is_verified_by_the_next(
    path: Path, damage: Callable[[Path], None]
) -> None:
    damage(path)
    assert not (path / "owner.json").exists()
    with pytest.raises((StoreDamaged, lmdb.Error)):
        open_store(path, token=6)
    assert (path / "owner.json").exists()
    with open_store(path, token=7) as store:
        assert store.committed() == set()
    assert path.with_name("00000.lmdb.damaged-1").is_dir()


@pytest.mark.parametrize("error", [lmdb.CorruptedError(), StoreDamaged(), BlockDamaged()])
def test_an_owner_that_met_damage_leaves_a_doubt(path: Path, error: Exception) -> None:
    with pytest.raises(type(error)), open_store(path, token=6):
        raise error
    assert (path / "owner.json").exists()


def test_an_owner_that_failed_otherwise_leaves_none(path: Path) -> None:
    with pytest.raises(ZeroDivisionError), open_store(path, token=6):
        raise ZeroDivisionError
    assert not (path / "owner.json").exists()


@pytest.mark.parametrize("damage", [break_root, damage_token])
def test_the_floor_of_a_store_that_cannot_be_read_is_0(path: Path, damage: Callable[[Path], None]) -> None:
    assert CheckpointStore.floor(path) == 5
    damage(path)
    assert CheckpointStore.floor(path) == 0
