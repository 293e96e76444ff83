"""The store's promises: fencing, durability, identity. Real LMDB, real processes, real kills."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import lmdb
import numpy as np
import pytest

from checkpoint import (
    Block,
    CheckpointStore,
    DoneRecord,
    QuarantineEntry,
    StaleToken,
    StoreDamaged,
    WrongJob,
)
from checkpoint.crash_log import CrashLog
from checkpoint.errors import DiskFailed, DiskFull, OwnerAlive
from checkpoint.lmdb_environment import Recorded
from checkpoint.process_identity import StoreOwner, identify
from checkpoint.verify import verify_store
from tests.support import ROOT
from tests.support.blocks_and_stores import JOB, LARGE, assert_same, damage_block, make_block, open_store
from tests.support.small_disks import can_mount, small_disk
from tests.support.waiting import wait_for

DONE = DoneRecord("00000-1.parquet", "ab" * 16, 3, 2, (QuarantineEntry(1, "x", 0, "empty sequence"),))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "00000.lmdb"


def test_committed_blocks_come_back_in_batch_order(path: Path) -> None:
    with open_store(path) as store:
        store.commit([make_block(300), make_block(2)], token=1)
        store.commit([make_block(1)], token=1)
    with CheckpointStore.open_readonly(path) as store:
        assert store.committed() == {1, 2, 300}
        assert [block.batch_idx for block in store.blocks()] == [1, 2, 300]
        assert_same(store.read(300), make_block(300))


def test_a_fenced_worker_cannot_commit(path: Path) -> None:
    with open_store(path, token=1) as store:
        store.commit([make_block(0)], token=1)
        store.close()
    with open_store(path, token=2) as store:
        with pytest.raises(StaleToken):
            store.commit([make_block(1)], token=1)
        with pytest.raises(StaleToken):
            store.set_done(DONE, token=1)
        with pytest.raises(StaleToken):
            store.drop([0], token=1)
        assert store.committed() == {0}
        assert store.done_record() is None


def test_the_floor_only_rises(path: Path) -> None:
    with open_store(path, token=7):
        pass
    with pytest.raises(StaleToken):
        open_store(path, token=6)
    assert CheckpointStore.floor(path) == 7


def test_the_floor_of_no_store_is_zero(path: Path) -> None:
    assert CheckpointStore.floor(path) == 0


def test_a_store_of_another_job_or_plan_is_refused(path: Path) -> None:
    with open_store(path):
        pass
    with pytest.raises(WrongJob, match="job_digest"):
        open_store(path, token=2, job_digest=bytes(16))
    with pytest.raises(WrongJob, match="plan"):
        open_store(path, token=2, plan="another")


def test_quarantine_entries_are_committed_with_their_batch(path: Path) -> None:
    entries = [QuarantineEntry(9, "b", 3, "NaN"), QuarantineEntry(4, "a", 5, "NaN")]
    with open_store(path) as store:
        store.commit([make_block(0)], token=1, quarantine=entries)
        assert store.quarantine() == (entries[1], entries[0])


def test_the_done_record_comes_back_and_goes_with_a_dropped_batch(path: Path) -> None:
    with open_store(path) as store:
        store.commit([make_block(0), make_block(1)], token=1)
        store.set_done(DONE, token=1)
        assert store.done_record() == DONE
        store.drop([1], token=1)
        assert store.done_record() is None
        assert store.committed() == {0}


def test_a_full_map_grows_on_line(path: Path) -> None:
    with open_store(path, map_size=1 << 20) as store:
        for index in range(16):
            store.commit([make_block(index, count=512, dim=128)], token=1)
        assert len(list(store.blocks())) == 16


def test_a_commit_that_is_larger_than_the_map_is_not_written_twice(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replayed: list[int] = []
    replay = Recorded.replay

    def noted(recorded: Recorded, transaction: lmdb.Transaction) -> None:
        replayed.append(recorded.num_bytes)
        replay(recorded, transaction)

    with open_store(path, map_size=1 << 20) as store:
        monkeypatch.setattr(Recorded, "replay", noted)
        store.commit([make_block(index, count=512, dim=128) for index in range(40)], token=1)
        assert len(replayed) == 1
        assert replayed[0] > 8 << 20
        assert store.committed() == set(range(40))


def test_of_a_commit_with_a_block_that_cannot_be_nothing_is_written(path: Path) -> None:
    impossible = Block(1, np.zeros(3, np.uint64), np.zeros((2, 4), np.float32))
    with open_store(path) as store:
        with pytest.raises(ValueError, match="no block"):
            store.commit([make_block(0), impossible], token=1)
        assert store.committed() == set()


def test_resuming_again_and_again_does_not_make_the_store_grow(path: Path) -> None:
    sizes = []
    for token in range(1, 100):
        with open_store(path, token=token) as store:
            store.drop([token % 10], token=token)
            store.commit([make_block(index, **LARGE) for index in range(10)], token=token)
        sizes.append((path / "data.mdb").stat().st_size)
    assert sizes[-1] < 1.1 * sizes[10]  # freed pages are found again; one leak a time would double it


@pytest.mark.parametrize("content", [b"", b"x" * 4096], ids=["empty", "garbage"])
def test_a_lost_data_file_is_damage_not_a_fresh_start(path: Path, content: bytes) -> None:
    with open_store(path) as store:
        store.commit([make_block(0)], token=1)
    (path / "data.mdb").write_bytes(content)
    with pytest.raises(StoreDamaged):
        CheckpointStore.open_readonly(path)
    with open_store(path, token=2) as store:
        assert store.committed() == set()
    assert (path.parent / "00000.lmdb.damaged-1").is_dir()


def test_a_cut_off_file_is_refused_before_lmdb_maps_it(path: Path) -> None:
    with open_store(path) as store:
        store.commit([make_block(index, count=512) for index in range(8)], token=1)
    data = path / "data.mdb"
    os.truncate(data, data.stat().st_size // 2)
    with pytest.raises(StoreDamaged, match="cut off"):
        CheckpointStore.open_readonly(path)


@pytest.mark.parametrize("page", [0, 4096])
@pytest.mark.parametrize(
    ("offset", "value"), [(16, 0), (20, 999), (40, 0), (40, 3000), (40, 8192), (40, 1 << 31)]
)
def test_senseless_meta_pages_are_refused_before_lmdb_maps_them(
    path: Path, page: int, offset: int, value: int
) -> None:
    """A page size of zero would end the process: LMDB divides by it."""
    with open_store(path) as store:
        store.commit([make_block(0)], token=1)
    with (path / "data.mdb").open("r+b") as file:
        file.seek(page + offset)
        file.write(value.to_bytes(4, "little"))
    with pytest.raises(StoreDamaged):
        CheckpointStore.open_readonly(path)
    with open_store(path, token=2) as store:
        assert store.committed() == set()


WRITER = """
import sys, time
from pathlib import Path
from tests.support.blocks_and_stores import make_block, open_store
store = open_store(Path(sys.argv[1]), token=int(sys.argv[2]))
for index in range(1_000_000):
    store.commit([make_block(index, count=64)], token=int(sys.argv[2]))
    print(index, flush=True)
"""


def start_writer(path: Path, token: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(token)],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


@pytest.mark.parametrize("acknowledged", [1, 5, 20, 60])
def test_a_killed_writer_keeps_every_acknowledged_commit(path: Path, acknowledged: int) -> None:
    with start_writer(path, 1) as writer:
        assert writer.stdout is not None
        for _ in range(acknowledged):
            writer.stdout.readline()
        writer.kill()
        last = acknowledged - 1 + len(writer.stdout.readlines())
    with open_store(path, token=2) as store:
        assert set(range(last)) <= store.committed()
        for block in store.blocks():
            assert_same(block, make_block(block.batch_idx, count=64))


def test_a_stopped_owner_is_ended_before_its_store_is_written(path: Path) -> None:
    with start_writer(path, 1) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        writer.send_signal(signal.SIGSTOP)
        with open_store(path, token=2) as store:
            store.commit([make_block(10**7)], token=2)
        assert writer.wait() == -signal.SIGKILL


def test_a_second_writer_with_the_same_token_is_refused_and_the_first_lives(path: Path) -> None:
    with start_writer(path, 2) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        with pytest.raises(OwnerAlive, match=f"process {writer.pid} writes to it under the same token 2"):
            open_store(path, token=2)
        assert writer.poll() is None
        writer.stdout.readline()
        writer.kill()
    with open_store(path, token=2) as store:
        assert {0, 1} <= store.committed()


def test_a_fenced_opener_leaves_the_rightful_owner_alive(path: Path) -> None:
    with start_writer(path, 2) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        with pytest.raises(StaleToken):
            open_store(path, token=1)
        assert writer.poll() is None
        writer.stdout.readline()
        writer.kill()


def test_an_owner_is_never_killed_for_a_reused_pid(path: Path) -> None:
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        known = wait_for(lambda: identify(bystander.pid), "the bystander")
        with open_store(path):
            pass
        other = type(known)(known.pid, known.start_time + 1)
        StoreOwner(StoreOwner.current(1).host_key, other, 1).write(path / "owner.json")
        with open_store(path, token=2):
            pass
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_damaged_batch_of_an_unclosed_store_is_dropped_and_no_other(path: Path) -> None:
    with start_writer(path, 1) as writer:
        assert writer.stdout is not None
        for _ in range(6):
            writer.stdout.readline()
        writer.kill()
    damage_block(path, 3)
    with open_store(path, token=2) as store:
        assert 3 not in store.committed()
        assert {0, 1, 2, 4} <= store.committed()


def test_a_closed_store_leaves_no_owner(path: Path) -> None:
    with open_store(path):
        assert StoreOwner.read(path / "owner.json") == StoreOwner.current(1)
    assert not (path / "owner.json").exists()


def test_an_unknown_batch_is_a_key_error(path: Path) -> None:
    with open_store(path) as store, pytest.raises(KeyError):
        store.read(1)


def test_the_store_names_its_job(path: Path) -> None:
    with open_store(path) as store:
        assert store.job_digest() == JOB


def test_a_store_that_is_half_removed_is_no_damage(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_store(path).close()

    def die(where: Path) -> None:
        (where / "data.mdb").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", die)
        with pytest.raises(KeyboardInterrupt):
            CheckpointStore.discard(path)
    assert verify_store(path).sound
    CheckpointStore.discard(path)
    CheckpointStore.discard(path)
    assert not path.exists()


def test_no_room_for_a_small_file_is_said_as_clearly_as_for_a_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("checkpoint.process_identity.write_as_directory", no_room)
    monkeypatch.setattr("checkpoint.crash_log.write_as_directory", no_room)
    with pytest.raises(DiskFull, match="the disk is full"):
        open_store(tmp_path / "00000.lmdb")
    with pytest.raises(DiskFull, match="the disk is full"):
        CrashLog.open(tmp_path / "flight.json").begin(3)


FILL = """
import subprocess
from pathlib import Path
from tests.support.blocks_and_stores import make_block, open_store
from checkpoint import CheckpointStore, DiskFull
from checkpoint.verify import verify_store

path = Path("small/store")
committed = []
with open_store(path) as store:
    try:
        for index in range(10**6):
            store.commit([make_block(index, count=64, dim=256)], token=1)
            committed.append(index)
    except DiskFull as error:
        print(error)
    assert store.committed() == set(committed)
    assert [block.batch_idx for block in store.blocks()] == committed
    subprocess.run(["mount", "-o", "remount,size=64m", "small"], check=True)
    store.commit([make_block(index, count=64, dim=256)], token=1)
    assert store.committed() == {*committed, index}
report = verify_store(path)
assert report.readable and not report.damaged, report
print(len(committed))
"""


@pytest.mark.skipif(not can_mount(), reason="needs user namespaces to mount a small disk")
def test_a_full_disk_costs_no_commit_and_is_over_when_there_is_room(tmp_path: Path) -> None:
    (tmp_path / "fill.py").write_text(FILL)
    ended = small_disk(tmp_path, "4m", f"PYTHONPATH={ROOT} {sys.executable} fill.py")
    assert ended.returncode == 0, ended.stderr
    said, committed = ended.stdout.splitlines()
    assert "the disk is full; what is committed stays, make room and resume" in said
    assert 20 < int(committed) < 64


NEXT_TO_NO_ROOM = """
from pathlib import Path
from tests.support.blocks_and_stores import open_store
from checkpoint import DiskFull

for left in range(0, 40 << 10, 4 << 10):
    Path("small/fill").write_bytes(bytes((64 << 10) - left))
    try:
        open_store(Path("small/store"))
    except DiskFull as error:
        print(error)
"""


@pytest.mark.skipif(not can_mount(), reason="needs user namespaces to mount a small disk")
def test_next_to_no_room_is_said_and_never_ends_the_process(tmp_path: Path) -> None:
    """LMDB maps its file of locks: a page of it that finds no room is a SIGBUS."""
    (tmp_path / "fill.py").write_text(NEXT_TO_NO_ROOM)
    ended = small_disk(tmp_path, "64k", f"PYTHONPATH={ROOT} {sys.executable} fill.py")
    assert ended.returncode == 0, ended.stderr
    assert len(ended.stdout.splitlines()) == 10


READ_ONLY = """
import subprocess
from pathlib import Path
from tests.support.blocks_and_stores import make_block, open_store
from checkpoint import DiskFailed

path = Path("small/store")
store = open_store(path)
store.commit([make_block(0)], token=1)
store.close()
subprocess.run(["mount", "-o", "remount,ro", "small"], check=True)
try:
    open_store(path)
except (DiskFailed, OSError) as error:
    print(error)
subprocess.run(["mount", "-o", "remount,rw", "small"], check=True)
with open_store(path, token=2) as store:
    assert store.committed() == {0}
"""


@pytest.mark.skipif(not can_mount(), reason="needs user namespaces to mount a disk")
def test_a_disk_that_turned_read_only_is_said_to_be_that_and_no_damage(tmp_path: Path) -> None:
    (tmp_path / "turn.py").write_text(READ_ONLY)
    ended = small_disk(tmp_path, "16m", f"PYTHONPATH={ROOT} {sys.executable} turn.py")
    assert ended.returncode == 0, ended.stderr
    assert "Read-only file system" in ended.stdout


def test_what_the_system_refuses_lmdb_is_the_hosts_and_what_lmdb_finds_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(kind: type[lmdb.Error], code: int) -> None:
        error = kind("of this test")
        error.code = code  # as the library's own code sets it

        def raise_it(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr("lmdb.open", raise_it)

    for code in (errno.EMFILE, errno.EACCES, errno.EIO, errno.ENOMEM):
        refuse(lmdb.Error, code)
        with pytest.raises(DiskFailed, match="of this test"):
            open_store(tmp_path / "00000.lmdb")
    refuse(lmdb.CorruptedError, -30796)
    with pytest.raises(lmdb.CorruptedError):
        open_store(tmp_path / "00000.lmdb")
