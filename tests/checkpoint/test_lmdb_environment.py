"""The environment's promises: it grows on line, never under a reader, and is open once in a process."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from checkpoint import AlreadyOpen, CheckpointError, CheckpointStore, StoreDamaged
from checkpoint.store_files import StoreFiles
from tests.support import ROOT
from tests.support.blocks_and_stores import LARGE, assert_same, make_block, open_store
from tests.support.waiting import run_aside


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "00000.lmdb"


def test_the_map_does_not_grow_under_a_snapshot(path: Path) -> None:
    with open_store(path, map_size=1 << 20) as store:
        store.commit([make_block(0, **LARGE)], token=1)
        grown = threading.Event()

        def outgrow() -> None:
            store.commit([make_block(1, count=2048, dim=1024)], token=1)
            grown.set()

        with store.snapshot() as snapshot:
            block = snapshot.read(0)
            writer = threading.Thread(target=outgrow)
            writer.start()
            assert not grown.wait(0.3)
            assert_same(block, make_block(0, **LARGE))
        writer.join(timeout=60)
        assert grown.is_set()
        assert store.committed() == {0, 1}


def test_nobody_reads_for_ever_while_the_map_has_to_grow(path: Path) -> None:
    """Snapshots that overlap without a pause must not keep a commit out."""
    with open_store(path, map_size=1 << 20) as store:
        store.commit([make_block(0)], token=1)
        stop = threading.Event()

        def read() -> None:
            while not stop.is_set():
                with store.snapshot() as snapshot:
                    time.sleep(0.02)
                    snapshot.read(0)

        readers = [threading.Thread(target=read) for _ in range(4)]
        for reader in readers:
            reader.start()
        try:
            run_aside(lambda: store.commit([make_block(1, count=2048, dim=1024)], token=1))
        finally:
            stop.set()
            for reader in readers:
                reader.join()
        assert store.committed() == {0, 1}


def test_a_thread_neither_writes_nor_closes_inside_its_own_snapshot(path: Path) -> None:
    with open_store(path) as store:
        with store.snapshot() as outer, store.snapshot() as inner:
            with pytest.raises(CheckpointError, match="inside a snapshot of the same thread"):
                store.commit([make_block(0)], token=1)
            with pytest.raises(CheckpointError, match="inside a snapshot of the same thread"):
                store.close()
            assert outer.committed() == inner.committed() == set()
        store.commit([make_block(0)], token=1)


def test_copies_can_be_read_while_the_same_thread_writes(path: Path) -> None:
    with open_store(path, map_size=1 << 20) as store:
        store.commit([make_block(index, **LARGE) for index in range(6)], token=1)
        seen = []
        for block in store.blocks():
            store.drop([4], token=1)
            store.commit([make_block(100 + block.batch_idx, count=512, dim=512)], token=1)
            assert_same(block, make_block(block.batch_idx, **LARGE))
            seen.append(block.batch_idx)
        assert seen == [0, 1, 2, 3, 5]


def test_a_reader_follows_a_file_that_another_process_has_grown(path: Path) -> None:
    with open_store(path, map_size=1 << 20) as store:
        store.commit([make_block(0)], token=1)
    writing = (
        "import sys; from pathlib import Path; from tests.support.blocks_and_stores import *\n"
        "with open_store(Path(sys.argv[1]), token=2) as store:\n"
        "    store.commit([make_block(1, count=4096, dim=1024)], token=2)"
    )
    with CheckpointStore.open_readonly(path) as store:
        assert store.committed() == {0}
        subprocess.run([sys.executable, "-c", writing, str(path)], check=True, cwd=ROOT)
        assert store.committed() == {0, 1}


# ---- once in a process


def test_a_second_writer_of_the_same_process_is_refused_and_the_first_goes_on(path: Path) -> None:
    with open_store(path) as store:
        with pytest.raises(AlreadyOpen, match="open already"):
            open_store(path)
        with pytest.raises(AlreadyOpen):
            CheckpointStore.open_readonly(path)
        store.commit([make_block(0)], token=1)
    with open_store(path) as store:
        assert store.committed() == {0}


def test_a_refused_opening_leaves_nothing_open(path: Path) -> None:
    """An environment without the store's databases: one that was torn before it was begun."""
    path.mkdir()
    subprocess.run(
        [sys.executable, "-c", "import lmdb, sys; lmdb.open(sys.argv[1], max_dbs=3)", str(path)], check=True
    )
    with pytest.raises(StoreDamaged) as kept:
        CheckpointStore.open_readonly(path)
    with open_store(path) as store:
        assert store.committed() == set()
        assert len(store.committed_ordinals()) == 0
    assert kept.value is not None


def test_a_forked_child_can_do_nothing_with_its_parents_store(path: Path) -> None:
    with open_store(path) as store:
        store.commit([make_block(0)], token=1)
        child = os.fork()
        if not child:
            os._exit(num_refused(store))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
        assert StoreFiles(path).owner.exists()
        store.commit([make_block(1)], token=1)
        assert store.committed() == {0, 1}


def num_refused(store: CheckpointStore) -> int:
    """Of a commit, two ways to read, and, which is let pass, closing it."""
    refused = 0
    for action in (lambda: store.commit([make_block(9)], token=1), store.committed, store.token, store.close):
        try:
            action()
        except CheckpointError as error:
            refused += "which forked" in str(error)
    return refused
