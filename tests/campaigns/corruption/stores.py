"""Sound stores of several shapes, with every state that they went through."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from checkpoint import Block, CheckpointStore, DoneRecord, QuarantineEntry
from checkpoint.store_files import StoreFiles
from tests.campaigns.power_loss.store_judge import digest
from tests.support.blocks_and_stores import JOB, PLAN, make_block, scan

TOKEN = 7
"""The last owner's; the one before it had a lower one."""
NUM_MORE = 4
"""Commits after a repair: they take pages from the list of free ones, which nobody reads before that."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A store of `num_blocks` blocks of `rows` x `dim` float32, so many in a commit.

    `quarantine`: each commit sets a record aside. `done`: the result is published. `dropped`: every third
    batch was dropped and committed again, so that there are free pages, and pages that were used twice.
    """

    rows: int
    dim: int
    num_blocks: int
    blocks_in_commit: int = 1
    quarantine: bool = False
    done: bool = False
    dropped: bool = False

    def block(self, batch_idx: int) -> Block:
        return make_block(batch_idx, count=self.rows, dim=self.dim)


SHAPES = {
    "3 blocks of 4 KiB, done": Shape(8, 120, 3, quarantine=True, done=True),
    "400 blocks of 4 KiB": Shape(8, 120, 400, blocks_in_commit=80),
    "60 blocks of 4 KiB, dropped and computed again": Shape(
        8, 120, 60, blocks_in_commit=5, quarantine=True, dropped=True
    ),
    "24 blocks of 64 KiB, with quarantine": Shape(32, 504, 24, blocks_in_commit=3, quarantine=True),
    "12 blocks of 64 KiB, dropped and computed again, done": Shape(32, 504, 12, done=True, dropped=True),
    "4 blocks of 1 MiB, done": Shape(256, 1016, 4, quarantine=True, done=True),
}


@dataclass(frozen=True, slots=True)
class Contents:
    """All that a store gives its readers; blocks by their digests."""

    blocks: Mapping[int, str]
    quarantine: tuple[QuarantineEntry, ...]
    done: DoneRecord | None
    token: int
    job_digest: bytes

    @classmethod
    def of(cls, store: CheckpointStore) -> "Contents":
        return cls(
            {index: "damaged" if block is None else digest(block) for index, block in scan(store)},
            store.quarantine(),
            store.done_record(),
            store.token(),
            store.job_digest(),
        )

    @classmethod
    def read(cls, path: Path) -> "Contents":
        with CheckpointStore.open_readonly(path) as store:
            return cls.of(store)


@dataclass(frozen=True)
class SoundStore:
    """A store's data file after each of its transactions, and what it held then; the last is the store."""

    shape: Shape
    files: tuple[bytes, ...]
    states: tuple[Contents, ...]

    @property
    def data(self) -> bytes:
        return self.files[-1]

    @property
    def contents(self) -> Contents:
        return self.states[-1]

    @cached_property
    def blocks(self) -> dict[int, Block]:
        """Made once: they are computed again after most damages."""
        return {index: self.shape.block(index) for index in range(self.shape.num_blocks)}

    @cached_property
    def more(self) -> dict[int, Block]:
        """What another plan would have had: to write on after a repair."""
        first = self.shape.num_blocks
        return {index: self.shape.block(index) for index in range(first, first + NUM_MORE)}

    @cached_property
    def all_digests(self) -> dict[int, str]:
        return {index: digest(block) for index, block in {**self.blocks, **self.more}.items()}

    def write(self, path: Path, data: bytes | None, *, closed: bool) -> None:
        """A store's directory with this data file, or none. The next owner trusts one that was closed."""
        files = StoreFiles(path)
        path.mkdir(parents=True)
        files.started.touch()
        if not closed:
            files.owner.write_text("{}")
        if data is not None:
            files.data.write_bytes(data)

    def resume(self, store: CheckpointStore, token: int) -> None:
        """What a worker does: compute the batches that are not committed, publish where nothing is."""
        missing = [index for index in range(self.shape.num_blocks) if index not in store.committed()]
        commit(store, self.shape, (self.blocks[index] for index in missing), token)
        if self.shape.done and store.done_record() is None:
            store.set_done(done_record(self.shape), token=token)


def make_store(path: Path, shape: Shape) -> SoundStore:
    files: list[bytes] = []
    states: list[Contents] = []
    for token in (TOKEN - 3, TOKEN):
        with CheckpointStore.open(path, job_digest=JOB, plan=PLAN, token=token) as store:
            for _ in _life(store, shape, token):
                files.append(StoreFiles(path).data.read_bytes())
                states.append(Contents.of(store))
    return SoundStore(shape, tuple(files), tuple(states))


def _life(store: CheckpointStore, shape: Shape, token: int) -> Iterator[None]:
    """Stops after every transaction. The first owner gets half way."""
    yield
    half, step = shape.num_blocks // 2, shape.blocks_in_commit
    mine = range(half) if token < TOKEN else range(half, shape.num_blocks)
    for start in range(mine.start, mine.stop, step):
        batches = range(start, min(start + step, mine.stop))
        commit(store, shape, map(shape.block, batches), token)
        yield
    if shape.dropped:
        again = [index for index in mine if index % 3 == 0]
        store.drop(again, token=token)
        yield
        for index in again:
            commit(store, shape, [shape.block(index)], token)
            yield
    if shape.done and token == TOKEN:
        store.set_done(done_record(shape), token=token)
        yield


def commit(store: CheckpointStore, shape: Shape, blocks: Iterable[Block], token: int) -> None:
    blocks = list(blocks)
    entries = [entry for block in blocks for entry in entries_of(shape, block.batch_idx)]
    if blocks:
        store.commit(blocks, token=token, quarantine=entries)


def entries_of(shape: Shape, batch_idx: int) -> list[QuarantineEntry]:
    """The record that was quarantined while the batch was computed; it follows from the batch's index."""
    if not shape.quarantine or batch_idx % shape.blocks_in_commit:
        return []
    return [QuarantineEntry(batch_idx * shape.rows, f"record-{batch_idx}", 312, "the output is not finite")]


def done_record(shape: Shape) -> DoneRecord:
    entries = tuple(entry for index in range(shape.num_blocks) for entry in entries_of(shape, index))
    num_rows = shape.num_blocks * shape.rows
    return DoneRecord("00000-7.parquet", "5a" * 16, num_rows, num_rows - len(entries), entries)
