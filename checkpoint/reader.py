"""StoreReader: what a store holds, as copies; `snapshot` reads without copying.

Its invariant: no call leaves a transaction open, so that the store can be written between any two of them.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from checkpoint.block import Block, Uint64s, Vectors, decode
from checkpoint.errors import StoreDamaged
from checkpoint.lmdb_environment import Environment
from checkpoint.lmdb_pages import check_pages
from checkpoint.records import DoneRecord, QuarantineEntry
from checkpoint.schema import BLOCKS, DONE, JOB, META, QUARANTINE, as_key
from checkpoint.sealed_records import SealedRecords
from checkpoint.snapshot import Snapshot, sound_or_none
from checkpoint.store_files import StoreFiles


class StoreReader:
    """The reading half of `CheckpointStore`."""

    def __init__(self, path: Path, environment: Environment, *, create: bool) -> None:
        self.path = path
        self._environment = environment
        try:
            self._blocks, meta, quarantine = (
                environment.open_db(name, create=create) for name in (BLOCKS, META, QUARANTINE)
            )
        except BaseException:
            environment.close()
            raise
        self._records = SealedRecords(path, meta, quarantine)

    def token(self) -> int:
        """The floor: the highest token that was seen."""
        with self._environment.reading() as transaction:
            return self._records.token(transaction)

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """Read without copying, as the store is now. Views are valid until the `with` block ends.

        This thread cannot write meanwhile. Others can; only a commit for which the map has to grow waits
        for the snapshot's end, so do not wait for a commit inside one.
        """
        with self._environment.reading(buffers=True) as transaction:
            snapshot = Snapshot(transaction, blocks=self._blocks, records=self._records)
            try:
                yield snapshot
            finally:
                snapshot.end()

    def committed(self) -> frozenset[int]:
        """The indices of the batches that are committed; reads keys only."""
        with self.snapshot() as snapshot:
            return snapshot.committed()

    def committed_ordinals(self) -> Uint64s:
        """The records of which a row is committed, ascending, each once. The vectors are not looked at."""
        with self.snapshot() as snapshot:
            return snapshot.ordinals()

    def blocks(self) -> Iterator[Block]:
        """A copy of every committed block in batch order, verified. The store may be written meanwhile:
        what is dropped before its turn is left out. Raises BlockDamaged at the first damaged one.
        """
        job_digest = self.job_digest()
        for batch_idx, value in self._values():
            yield decode(value, job_digest=job_digest, batch_idx=batch_idx)

    def scan(self, job_digest: bytes | None = None) -> Iterator[tuple[int, Block | None]]:
        """The same with None in the place of a block that fails its checks. Raises NewerFormat."""
        expected = job_digest or self.job_digest()
        for batch_idx, value in self._values():
            yield batch_idx, sound_or_none(value, expected, batch_idx)

    def _values(self) -> Iterator[tuple[int, bytes]]:
        """One transaction for each, so that none lives while the caller has the block."""
        for batch_idx in sorted(self.committed()):
            if (value := self._get(as_key(batch_idx), self._blocks)) is not None:
                yield batch_idx, value

    def read(self, batch_idx: int) -> Block:
        """A copy of one batch. Raises KeyError when it is not there, BlockDamaged when it is damaged."""
        value = self._get(as_key(batch_idx), self._blocks)
        if value is None:
            raise KeyError(batch_idx)
        return decode(value, job_digest=self.job_digest(), batch_idx=batch_idx)

    def find(self, ordinal: int) -> Vectors:
        """A copy of all vectors of one record, as `Snapshot.find` has them; for many, use a snapshot.

        Raises KeyError when nothing of it is committed, BlockDamaged when its batch is damaged.
        """
        with self.snapshot() as snapshot:
            return snapshot.find(ordinal).copy()

    def quarantine(self) -> tuple[QuarantineEntry, ...]:
        """The records that were set aside while computing, by ordinal. Raises StoreDamaged."""
        with self._environment.reading() as transaction:
            entries = list(self._records.entries(transaction, self._records.quarantine))
        with self._damage_where_senseless():
            return tuple(QuarantineEntry.decode(content) for _, content in entries)

    def done_record(self) -> DoneRecord | None:
        """Which published file is the result; None while there is none. Raises StoreDamaged."""
        value = self._get_meta(DONE)
        with self._damage_where_senseless():
            return None if value is None else DoneRecord.decode(value)

    def job_digest(self) -> bytes:
        """The job that the store belongs to. Raises StoreDamaged when it names none."""
        digest = self._get_meta(JOB)
        if digest is None:
            raise StoreDamaged(f"{self.path}: it names no job")
        return digest

    def check(self) -> None:
        """Check what readers do not look at and writers trust: pages, and every small record.

        Raises StoreDamaged. Blocks are for `scan`.
        """
        checked = False
        while not checked:
            # An owner that goes on writing keeps this snapshot's pages, but not for ever its root.
            with self._environment.reading() as transaction:
                checked = check_pages(StoreFiles(self.path).data, transaction.id())
        with self._environment.reading() as transaction:
            self._records.check(transaction)

    @contextlib.contextmanager
    def _damage_where_senseless(self) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            raise StoreDamaged(f"{self.path}: {error}") from None

    def _get_meta(self, key: bytes) -> bytes | None:
        with self._environment.reading() as transaction:
            return self._records.get(transaction, key)

    def _get(self, key: bytes, db: Any) -> bytes | None:
        with self._environment.reading() as transaction:
            value = transaction.get(key, db=db)
        return None if value is None else bytes(value)
