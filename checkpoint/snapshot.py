"""Snapshot: what one read transaction sees of a store, without copying it.

Its invariant: it does not change while it lives, whatever is committed meanwhile. Its blocks are views of
LMDB's map, and die with it.
"""

from collections.abc import Iterator
from typing import Any

import lmdb
import numpy as np
import numpy.typing as npt

from checkpoint.block import Block, Uint64s, Vectors, decode, join_vectors, read_ordinals
from checkpoint.errors import CheckpointError, NewerFormat, StoreDamaged
from checkpoint.schema import JOB, SmallRecords, as_key, as_number

ALIGNED_TO = 16
"""LMDB puts a value of about half a page and more at byte 16 of a page, and a smaller one anywhere."""


class Snapshot:
    """`CheckpointStore.snapshot` makes one. For one thread; usable until its `with` block ends.

    The arrays of its blocks are read-only views of the file's pages, valid until then: what is to live
    longer is copied (`Block.copy`). Reading a kept view afterwards reads other data or ends the process.
    """

    def __init__(self, transaction: lmdb.Transaction, *, blocks: Any, records: SmallRecords) -> None:
        self.path = records.path
        self._living: lmdb.Transaction | None = transaction
        self._blocks, self._records = blocks, records
        self._verified: dict[int, Block] = {}
        self._places: tuple[Uint64s, Uint64s] | None = None

    def end(self) -> None:
        """From now on every call is refused."""
        self._living = self._places = None
        self._verified.clear()

    def job_digest(self) -> bytes:
        """The job that the store belongs to, 16 bytes. Raises StoreDamaged when it names none."""
        value = self._records.get(self._transaction, JOB)
        if value is None:
            raise StoreDamaged(f"{self.path}: it names no job")
        return value

    # ---- without the vectors: only the pages that are asked for are read

    def committed(self) -> frozenset[int]:
        """The indices of the batches that are committed; reads keys only."""
        with self._transaction.cursor(db=self._blocks) as cursor:
            keys = b"".join(cursor.iternext(keys=True, values=False))
        return frozenset(np.frombuffer(keys, ">u8").tolist())

    def ordinals(self) -> Uint64s:
        """The records of which anything is committed: uint64, ascending, each once; vectors are not read."""
        ordinals, _ = self._index()
        is_first = np.ones(len(ordinals), np.bool_)
        is_first[1:] = ordinals[1:] != ordinals[:-1]
        return ordinals[is_first]

    # ---- with them

    def blocks(self) -> Iterator[Block]:
        """Every committed block in batch order, verified, as views. Raises BlockDamaged at a damaged one."""
        job_digest = self.job_digest()
        for batch_idx, value in self._values():
            yield decode(_aligned(value), job_digest=job_digest, batch_idx=batch_idx)

    def scan(self, job_digest: bytes | None = None) -> Iterator[tuple[int, Block | None]]:
        """Every committed batch in order, None in the place of a block that fails its checks.

        Raises NewerFormat: what a newer version wrote is not damage, and not to be dropped.
        """
        expected = job_digest or self.job_digest()
        for batch_idx, value in self._values():
            yield batch_idx, sound_or_none(_aligned(value), expected, batch_idx)

    def read(self, batch_idx: int) -> Block:
        """One batch, as views. Raises KeyError when it is not there, BlockDamaged when it is damaged."""
        if batch_idx not in self._verified:
            value = self._transaction.get(as_key(batch_idx), db=self._blocks)
            if value is None:
                raise KeyError(batch_idx)
            block = decode(_aligned(value), job_digest=self.job_digest(), batch_idx=batch_idx)
            self._verified[batch_idx] = block
        return self._verified[batch_idx]

    def find(self, ordinal: int) -> Vectors:
        """All vectors of one record: [1, dim]; [k, dim] for k windows, in batch order; [L, dim] if ragged.

        The first call reads all ordinals (8 bytes a row), the next ones look them up. Each batch that is
        met is verified once. A view, unless the record's windows lie apart.

        Raises:
            KeyError: nothing of the record is committed. Where an ordinal itself was damaged that is not
                noticed here; `scan` notices.
            BlockDamaged: a batch that holds it is damaged.
        """
        ordinals, batches = self._index()
        first, end = (int(np.searchsorted(ordinals, np.uint64(ordinal), side)) for side in ("left", "right"))
        if first == end:
            raise KeyError(ordinal)
        parts = [self.read(batch_idx).rows(ordinal) for batch_idx in np.unique(batches[first:end]).tolist()]
        return parts[0] if len(parts) == 1 else join_vectors(parts)

    def _index(self) -> tuple[Uint64s, Uint64s]:
        """All committed ordinals, ascending, and the batch of each. Read once: a snapshot does not change."""
        if self._places is not None:
            return self._places
        parts = [(batch_idx, read_ordinals(value)) for batch_idx, value in self._values()]
        none = np.empty(0, np.uint64)
        ordinals = np.concatenate([none, *(part for _, part in parts)])
        batches: npt.NDArray[np.uint64] = np.repeat(
            np.array([batch_idx for batch_idx, _ in parts], np.uint64), [len(part) for _, part in parts]
        )
        order = np.argsort(ordinals)
        self._places = ordinals[order], batches[order]
        return self._places

    def _values(self) -> Iterator[tuple[int, bytes | memoryview]]:
        with self._transaction.cursor(db=self._blocks) as cursor:
            for key, value in cursor:
                yield as_number(key), value
                self._transaction  # noqa: B018 - refuses to go on after the end

    @property
    def _transaction(self) -> lmdb.Transaction:
        if self._living is None:
            raise CheckpointError(f"{self.path}: this snapshot has ended")
        return self._living


def sound_or_none(value: bytes | memoryview, job_digest: bytes, batch_idx: int) -> Block | None:
    """The block, or None when it fails its checks. Raises NewerFormat."""
    try:
        return decode(value, job_digest=job_digest, batch_idx=batch_idx)
    except NewerFormat:
        raise
    except CheckpointError:
        return None


def _aligned(value: bytes | memoryview) -> bytes | memoryview:
    """The value itself, or a copy of a small one that lies askew, so that every array is aligned."""
    if not value:
        return value  # numpy takes no empty buffer; `decode` says what is wrong with it
    address, _ = np.frombuffer(value, np.uint8).__array_interface__["data"]
    return value if address % ALIGNED_TO == 0 else bytes(value)
