"""Reading without copying: what a snapshot promises, and how fast the store says what is in it."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from checkpoint import Block, BlockDamaged, CheckpointError, CheckpointStore, NewerFormat
from tests.support.blocks_and_stores import (
    JOB,
    LARGE,
    assert_same,
    damage_block,
    make_block,
    make_ragged,
    open_store,
)
from tests.support.waiting import run_aside

MILLION = 1_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "00000.lmdb"


def address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


# ---- views


def test_blocks_of_a_snapshot_are_those_that_were_committed(path: Path) -> None:
    written = [
        make_block(0),
        make_block(1, **LARGE),
        make_ragged(7, [900], [np.ones((5, 4), np.float16)]),
    ]
    with open_store(path) as store:
        store.commit(written, token=1)
        with store.snapshot() as snapshot:
            for found, expected in zip(snapshot.blocks(), written, strict=True):
                assert_same(found, expected)
            assert_same(snapshot.read(7), written[2])
            assert snapshot.committed() == {0, 1, 7}


def test_no_large_block_is_copied(path: Path) -> None:
    with open_store(path) as store:
        store.commit([make_block(0, **LARGE)], token=1)
        with store.snapshot() as snapshot:
            twice = [next(iter(snapshot.blocks())), snapshot.read(0)]
            assert address(twice[0].embeddings) == address(twice[1].embeddings)
            assert address(twice[0].ordinals) == address(twice[1].ordinals)
            assert not np.shares_memory(twice[0].copy().embeddings, twice[0].embeddings)


def test_views_cannot_be_written_to(path: Path) -> None:
    with open_store(path) as store:
        store.commit([make_block(0), make_block(1, **LARGE)], token=1)
        with store.snapshot() as snapshot:
            for block in snapshot.blocks():
                with pytest.raises(ValueError, match="read-only"):
                    block.embeddings[0] = 0


def test_every_view_is_aligned_whatever_its_size(path: Path) -> None:
    with open_store(path) as store:
        store.commit([make_block(index, count=index, dim=7) for index in range(120)], token=1)
        with store.snapshot() as snapshot:
            for block in snapshot.blocks():
                assert address(block.embeddings) % 16 == 0
                assert address(block.ordinals) % 8 == 0


def test_a_snapshot_does_not_change_while_others_commit(path: Path) -> None:
    with open_store(path) as store:
        store.commit([make_block(0)], token=1)
        with store.snapshot() as snapshot:
            run_aside(lambda: store.commit([make_block(0, count=3), make_block(1)], token=1))
            assert store.committed() == {0, 1}
            assert snapshot.committed() == {0}
            assert_same(snapshot.read(0), make_block(0))


def test_a_snapshot_that_has_ended_refuses_every_call(path: Path) -> None:
    with open_store(path) as store:
        store.commit([make_block(0), make_block(1)], token=1)
        with store.snapshot() as snapshot:
            blocks = snapshot.blocks()
            next(blocks)
            snapshot.find(0)
        for call in (
            snapshot.committed,
            snapshot.ordinals,
            snapshot.job_digest,
            lambda: snapshot.read(0),
            lambda: snapshot.find(0),
            lambda: next(blocks),
            lambda: next(snapshot.scan()),
        ):
            with pytest.raises(CheckpointError, match="has ended"):
                call()


# ---- finding


def test_a_record_is_found_by_its_ordinal(path: Path) -> None:
    blocks = [make_block(index) for index in range(9)]
    with open_store(path) as store:
        store.commit(blocks, token=1)
        np.testing.assert_array_equal(store.find(35), blocks[4].embeddings[3:4])
        with store.snapshot() as snapshot:
            for ordinal in range(72):
                expected = blocks[ordinal // 8].embeddings[ordinal % 8]
                np.testing.assert_array_equal(snapshot.find(ordinal), expected[None])
            for missing in (72, 2**64 - 1):
                with pytest.raises(KeyError):
                    snapshot.find(missing)


def test_what_was_found_in_the_store_outlives_it(path: Path) -> None:
    with open_store(path) as store:
        store.commit([make_block(0, **LARGE)], token=1)
        found = store.find(3)
    np.testing.assert_array_equal(found, make_block(0, **LARGE).embeddings[3:4])


def test_windows_are_found_in_order_though_they_lie_in_several_batches(path: Path) -> None:
    def block(batch_idx: int, *ordinals: int) -> Block:
        rows = np.arange(len(ordinals), dtype=np.float32)[:, None] + 10 * batch_idx
        return Block(batch_idx, np.array(ordinals, np.uint64), rows)

    with open_store(path) as store:
        store.commit([block(300, 7, 8), block(2, 9, 7, 7), block(0, 7), block(1)], token=1)
        assert store.find(7)[:, 0].tolist() == [0, 21, 22, 300 * 10]
        assert store.committed_ordinals().tolist() == [7, 8, 9]


def test_a_ragged_record_is_found_as_its_matrix(path: Path) -> None:
    matrix = np.arange(12, dtype=np.float16).reshape(3, 4)
    with open_store(path) as store:
        store.commit([make_ragged(0, [5, 6], [matrix[:1], matrix])], token=1)
        np.testing.assert_array_equal(store.find(6), matrix)


def test_a_record_of_a_damaged_batch_is_not_handed_out(path: Path) -> None:
    with open_store(path) as store:
        store.commit([make_block(0, **LARGE), make_block(1, **LARGE)], token=1)
    damage_block(path, 1)
    with CheckpointStore.open_readonly(path) as store, store.snapshot() as snapshot:
        assert snapshot.find(0).shape == (1, 32)
        with pytest.raises(BlockDamaged):
            snapshot.find(64)
        assert [index for index, block in snapshot.scan(JOB) if block is None] == [1]


# ---- what is in it, without reading it


@pytest.mark.parametrize(("size", "within_ms"), [(512, 10.0), (64, 80.0)])
def test_the_batches_of_a_million_records_are_named_in_milliseconds(
    path: Path, size: int, within_ms: float
) -> None:
    """CPU time of this thread, the best of five."""
    num_batches = -(-MILLION // size)
    vectors = np.zeros((size, 16), np.float16)
    with open_store(path) as store:
        for first in range(0, num_batches, 4000):
            batches = range(first, min(first + 4000, num_batches))
            ordinals = [np.arange(i * size, min(i * size + size, MILLION), dtype=np.uint64) for i in batches]
            blocks = zip(batches, ordinals, strict=True)
            store.commit([Block(i, part, vectors[: len(part)]) for i, part in blocks], token=1)
        assert store.committed() == set(range(num_batches))
        assert least_ms(store.committed) < within_ms


def least_ms(call: Callable[[], object]) -> float:
    def once() -> float:
        started = time.thread_time()
        call()
        return 1000 * (time.thread_time() - started)

    return min(once() for _ in range(5))


def test_names_and_counts_do_not_read_the_vectors(path: Path) -> None:
    """Damage in every vector goes unnoticed where no vector is looked at."""
    with open_store(path) as store:
        store.commit([make_block(index, **LARGE) for index in range(3)], token=1)
    for index in range(3):
        damage_block(path, index)
    with CheckpointStore.open_readonly(path) as store:
        assert store.committed() == {0, 1, 2}
        assert store.committed_ordinals().tolist() == list(range(3 * 64))


@pytest.mark.parametrize("value", [b"", b"no", bytes(79), bytes(5000)])
def test_values_that_are_no_blocks_are_damaged_batches(path: Path, value: bytes) -> None:
    with open_store(path) as store:
        store.commit([make_block(0)], token=1)
        with store._transaction(1) as transaction:
            transaction.put(bytes(7) + b"\x01", value, db=store._blocks)
        with store.snapshot() as snapshot:
            assert [block is None for _, block in snapshot.scan()] == [False, True]


def test_values_that_are_no_blocks_have_no_ordinals(path: Path) -> None:
    with open_store(path) as store:
        store.commit([make_block(0)], token=1)
        for value, error in (
            (b"no", BlockDamaged),
            (b"", BlockDamaged),
            (bytes(80), BlockDamaged),
            (b"HFBLOCK\n\xff\x00" + bytes(70), NewerFormat),
        ):
            with store._transaction(1) as transaction:
                transaction.put(bytes(7) + b"\x01", value, db=store._blocks)
            with pytest.raises(error):
                store.committed_ordinals()
