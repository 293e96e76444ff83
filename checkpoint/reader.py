"""StoreReader: what a store holds, as copies; `snapshot` reads without copying.

Its invariant: no call leaves a transaction open, so that the store can be written between any two of them.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from checkpoint.block import Block, Uint64s, Vectors
from checkpoint.errors import StoreDamaged
from checkpoint.lmdb_environment import Environment
from checkpoint.lmdb_pages import check_pages
from checkpoint.records import DoneRecord, Kind, QuarantineEntry, decode_kinds
from checkpoint.schema import BLOCKS, DONE, KINDS, META, QUARANTINE, SmallRecords
from checkpoint.snapshot import Snapshot
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
        self._records = SmallRecords(path, meta, quarantine)

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
        for batch_idx in sorted(self.committed()):
            try:
                block = self.read(batch_idx)
            except KeyError:
                continue
            yield block

    def read(self, batch_idx: int) -> Block:
        """A copy of one batch. Raises KeyError when it is not there, BlockDamaged when it is damaged."""
        with self.snapshot() as snapshot:
            return snapshot.read(batch_idx).copy()

    def find(self, ordinal: int) -> Vectors:
        """A copy of all vectors of one record, as `Snapshot.find` has them; for many, use a snapshot.

        Raises KeyError when nothing of it is committed, BlockDamaged when its batch is damaged.
        """
        with self.snapshot() as snapshot:
            return snapshot.find(ordinal).copy()

    def job_digest(self) -> bytes:
        """The job that the store belongs to, 16 bytes. Raises StoreDamaged when it names none."""
        with self.snapshot() as snapshot:
            return snapshot.job_digest()

    def token(self) -> int:
        """The floor: the highest token that was seen."""
        with self._environment.reading() as transaction:
            return self._records.token(transaction)

    def quarantine(self) -> tuple[QuarantineEntry, ...]:
        """The records that were quarantined while computing, by ordinal. Raises StoreDamaged."""
        with self._environment.reading() as transaction, self._senseless_is_damage():
            entries = self._records.entries(transaction, self._records.quarantine)
            return tuple(QuarantineEntry.decode(content) for _, content in entries)

    def kinds(self) -> tuple[Kind, ...]:
        """What the batches were computed by, in the order in which they came. Raises StoreDamaged."""
        with self._environment.reading() as transaction, self._senseless_is_damage():
            value = self._records.get(transaction, KINDS)
            return () if value is None else decode_kinds(value)

    def done_record(self) -> DoneRecord | None:
        """Which published file is the result; None while there is none. Raises StoreDamaged."""
        with self._environment.reading() as transaction, self._senseless_is_damage():
            value = self._records.get(transaction, DONE)
            return None if value is None else DoneRecord.decode(value)

    def check(self) -> None:
        """Check what readers do not look at and writers trust: pages, and every small record.

        Raises StoreDamaged. Blocks are for `Snapshot.scan`.
        """
        checked = False
        while not checked:
            # An owner that goes on writing keeps this snapshot's pages, but not for ever its root.
            with self._environment.reading() as transaction:
                checked = check_pages(StoreFiles(self.path).data, transaction.id())
        with self._environment.reading() as transaction:
            self._records.check(transaction)

    @contextlib.contextmanager
    def _senseless_is_damage(self) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            raise StoreDamaged(f"{self.path}: {error}") from None
