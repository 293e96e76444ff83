"""Looking at damaged stores without dying of it."""

import random
from pathlib import Path

import pytest
from blocks import JOB, damage_block, make_block, open_store

from checkpoint import DoneRecord
from checkpoint.verify import verify_store


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
