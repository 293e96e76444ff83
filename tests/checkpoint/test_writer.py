"""The commit thread's promises."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from checkpoint import (
    Block,
    CheckpointStore,
    CheckpointTrigger,
    CheckpointWriter,
    QuarantineEntry,
    StaleToken,
)
from tests.support.blocks_and_stores import make_block, open_store
from tests.support.waiting import wait_for

NEVER = CheckpointTrigger(sequences=10**9, seconds=10**6)


class GatedStore:
    """A store whose disk the test can hold up."""

    def __init__(self, store: CheckpointStore) -> None:
        self.store = store
        self.open = threading.Event()
        self.commits: list[list[int]] = []

    def commit(self, blocks: Sequence[Block], *, token: int, quarantine: Sequence[QuarantineEntry]) -> None:
        self.open.wait()
        self.store.commit(blocks, token=token, quarantine=quarantine)
        self.commits.append([block.batch_idx for block in blocks])


def test_the_last_checkpoint_captures_the_rest(tmp_path: Path) -> None:
    with open_store(tmp_path / "s") as store:
        with CheckpointWriter(store, token=1, trigger=NEVER) as writer:
            for index in range(5):
                writer.put(make_block(index))
            assert store.committed() == set()
        assert store.committed() == set(range(5))


def test_a_commit_is_due_by_the_number_of_sequences(tmp_path: Path) -> None:
    trigger = CheckpointTrigger(sequences=16, seconds=10**6)
    with open_store(tmp_path / "s") as store, CheckpointWriter(store, token=1, trigger=trigger) as writer:
        writer.put(make_block(0))
        writer.put(make_block(1))
        wait_for(lambda: store.committed() == {0, 1}, "the commit")


def test_a_commit_is_due_by_the_number_of_bytes(tmp_path: Path) -> None:
    trigger = CheckpointTrigger(sequences=10**9, seconds=10**6, size_bytes=2 * make_block(0).nbytes)
    with open_store(tmp_path / "s") as store, CheckpointWriter(store, token=1, trigger=trigger) as writer:
        writer.put(make_block(0))
        writer.put(make_block(1))
        wait_for(lambda: store.committed() == {0, 1}, "the commit")


def test_a_commit_is_due_by_time_though_no_block_arrives(tmp_path: Path) -> None:
    trigger = CheckpointTrigger(sequences=10**9, seconds=0.05)
    with open_store(tmp_path / "s") as store, CheckpointWriter(store, token=1, trigger=trigger) as writer:
        writer.put(make_block(0))
        wait_for(lambda: store.committed() == {0}, "the commit")


def test_all_that_waits_goes_into_one_transaction(tmp_path: Path) -> None:
    with open_store(tmp_path / "s") as store:
        gated = GatedStore(store)
        gated.open.set()
        with CheckpointWriter(gated, token=1, trigger=NEVER) as writer:  # type: ignore[arg-type]
            for index in range(5):
                writer.put(make_block(index))
        assert gated.commits == [[0, 1, 2, 3, 4]]


def test_commits_are_told_after_they_are_durable(tmp_path: Path) -> None:
    told: list[tuple[list[int], bool]] = []
    with open_store(tmp_path / "s") as store:

        def note(batches: Sequence[int]) -> None:
            told.append((list(batches), set(batches) <= store.committed()))

        with CheckpointWriter(store, token=1, trigger=NEVER, on_commit=note) as writer:
            writer.put(make_block(0))
            writer.put(make_block(1))
    assert told == [([0, 1], True)]


def test_a_slow_disk_slows_the_producer_down_and_eats_no_memory(tmp_path: Path) -> None:
    block_bytes = make_block(0).ordinals.nbytes + make_block(0).embeddings.nbytes
    with open_store(tmp_path / "s") as store:
        gated = GatedStore(store)
        writer = CheckpointWriter(gated, token=1, trigger=NEVER, max_pending_bytes=4 * block_bytes)  # type: ignore[arg-type]
        handed_over: list[int] = []

        def produce() -> None:
            for index in range(12):
                writer.put(make_block(index))
                handed_over.append(index)

        producer = threading.Thread(target=produce)
        producer.start()
        wait_for(lambda: len(handed_over) == 4, "the bound to be reached")
        producer.join(timeout=0.2)
        assert producer.is_alive()
        assert len(handed_over) == 4
        gated.open.set()
        producer.join()
        writer.close()
        assert store.committed() == set(range(12))
        assert writer.times.blocked > 0


def test_the_lag_is_what_the_oldest_block_waited_until_it_was_durable(tmp_path: Path) -> None:
    with open_store(tmp_path / "s") as store:
        gated = GatedStore(store)
        writer = CheckpointWriter(gated, token=1, trigger=CheckpointTrigger(sequences=1))  # type: ignore[arg-type]
        started = time.monotonic()
        writer.put(make_block(0))
        handed_over = time.monotonic()
        time.sleep(0.05)
        opened = time.monotonic()
        gated.open.set()
        writer.close()
        assert opened - handed_over <= writer.times.lag <= time.monotonic() - started
        assert writer.times.num_commits == 1
        assert 0 < writer.times.committing <= writer.times.lag
        assert writer.times.processor > 0


def test_a_block_larger_than_the_bound_still_passes(tmp_path: Path) -> None:
    with open_store(tmp_path / "s") as store:
        with CheckpointWriter(store, token=1, trigger=NEVER, max_pending_bytes=1) as writer:
            writer.put(make_block(0))
            writer.put(make_block(1))
        assert store.committed() == {0, 1}


def test_a_failed_commit_reaches_the_producer(tmp_path: Path) -> None:
    with open_store(tmp_path / "s", token=2) as store:
        writer = CheckpointWriter(store, token=1, trigger=CheckpointTrigger(sequences=1))
        writer.put(make_block(0))
        with pytest.raises(StaleToken):
            wait_for(lambda: writer.put(make_block(1)), "the failure")
        with pytest.raises(StaleToken):
            writer.close()
        assert store.committed() == set()


def put_then_fail(writer: CheckpointWriter) -> None:
    writer.put(make_block(0))
    raise ZeroDivisionError


def test_what_was_computed_is_committed_though_the_model_failed(tmp_path: Path) -> None:
    with open_store(tmp_path / "s") as store:
        with pytest.raises(ZeroDivisionError), CheckpointWriter(store, token=1, trigger=NEVER) as writer:
            put_then_fail(writer)
        assert store.committed() == {0}
