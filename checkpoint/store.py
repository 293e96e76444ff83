"""CheckpointStore: the committed batches of one shard, in one LMDB environment.

Its invariant: a block is in the store only if it was written under a token that was, at that moment, not
below any token the store had seen. Every write checks that inside its own transaction.
"""

import contextlib
import uuid
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType

import lmdb

from checkpoint.block import Block, encode_into, encoded_bytes
from checkpoint.errors import (
    BlockDamaged,
    CheckpointError,
    NewerFormat,
    OwnerAlive,
    StaleToken,
    StoreDamaged,
    WrongJob,
)
from checkpoint.lmdb_environment import Environment, Recorded
from checkpoint.network_filesystems import refuse_network_file_system
from checkpoint.process_identity import StoreOwner, evict
from checkpoint.reader import StoreReader
from checkpoint.records import DoneRecord, Kind, QuarantineEntry, encode_kinds
from checkpoint.schema import (
    DONE,
    FORMAT,
    FORMAT_VERSION,
    JOB,
    KINDS,
    PLAN,
    SEALED_FORMAT,
    TOKEN,
    UUID,
    as_key,
    seal,
)
from checkpoint.store_files import (
    StoreFiles,
    clear_when_full,
    make_store_directory,
    open_as_directory,
    require_room,
)
from checkpoint.verify import verify_store

MAP_SIZE_BYTES = 64 << 20
"""Where a new store's map begins; it doubles on line whenever it is full."""
DAMAGE = (lmdb.Error, StoreDamaged, BlockDamaged)
"""What gives reason to look through a store before it is used again."""


class CheckpointStore(StoreReader):
    """Use `open` or `open_readonly`. Safe to use from several threads of one process."""

    def __init__(self, path: Path, environment: Environment, *, writable: bool) -> None:
        self.files = StoreFiles(path)
        # A database that is missing in a store that was begun is damage, and not to be covered by a new one.
        super().__init__(path, environment, create=writable and not self.files.started.exists())
        self._writable = writable
        self._kind: Kind | None = None

    # ---- opening and closing

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        job_digest: bytes,
        plan: str,
        token: int,
        kind: Kind | None = None,
        map_size: int = MAP_SIZE_BYTES,
    ) -> "CheckpointStore":
        """Become the store's owner and open it for writing.

        A living local owner is ended first. A store that was not closed is verified in a child process:
        damaged blocks are dropped, so that their batches are computed again, and a store that cannot be
        read is moved aside as `<path>.damaged-N`.

        Args:
            path: the store's directory; made when it is not there.
            job_digest: 16 bytes, in every block.
            plan: fingerprint of the batch plan that gives the batch indices their meaning.
            token: the fencing token of this owner's lease.
            kind: what computes the blocks that this owner commits; it is remembered with the first of them.

        Raises:
            StaleToken: the store has seen a higher token.
            WrongJob: the store belongs to another job or plan.
            NewerFormat: it was written by a newer version.
            OwnerAlive: the last owner runs on this host and could not be ended, or holds the same token.
            AlreadyOpen: this process has the store open.
            NetworkFileSystem: `path` lies on one.
            DiskFull: there is no room.
        """
        refuse_network_file_system(path)
        with clear_when_full(path):
            store = cls._open(path, job_digest, plan, token, map_size)
        store._kind = kind
        return store

    @classmethod
    def _open(cls, path: Path, job_digest: bytes, plan: str, token: int, map_size: int) -> "CheckpointStore":
        make_store_directory(path)
        require_room(path)
        damaged = _take_over(StoreFiles(path), token)
        make_store_directory(path)
        StoreOwner.current(token).write(StoreFiles(path).owner)
        store = cls(path, Environment.open(path, map_size, readonly=False), writable=True)
        try:
            store._begin(job_digest, plan, token)
            if damaged:
                store.drop(damaged, token=token)
            store.files.mark_started()
            open_as_directory(path)
        except BaseException as error:
            store._end(error)
            raise
        return store

    @classmethod
    def open_readonly(cls, path: Path) -> "CheckpointStore":
        """Open a store to look at; its owner may go on writing meanwhile.

        Raises:
            StoreDamaged: there is no store, or its file is cut off. Broken pages inside it can still kill
                this process: `verify_store` looks from a child.
            NewerFormat: it was written by a newer version.
            AlreadyOpen: this process has the store open.
            NetworkFileSystem: `path` lies on one.
        """
        StoreFiles(path).check()
        refuse_network_file_system(path)
        try:
            store = cls(path, Environment.open(path, 0, readonly=True), writable=False)
        except lmdb.Error as error:
            raise StoreDamaged(f"{path}: {error}") from None
        try:
            store._check_format()
        except BaseException:
            store.close()
            raise
        return store

    @staticmethod
    def floor(path: Path) -> int:
        """The highest token that the store has seen; 0 where there is none, or none that can be read."""
        files = StoreFiles(path)
        if not files.data.exists():
            return 0
        if files.owner.exists():
            # Not closed: it may be damaged, and looking at it may be deadly.
            return verify_store(path).token
        try:
            with CheckpointStore.open_readonly(path) as store:
                return store.token()
        except (CheckpointError, lmdb.Error):
            return 0

    @staticmethod
    def discard(path: Path) -> None:
        """Remove a store that is no longer needed."""
        StoreFiles(path).discard()

    def close(self) -> None:
        """Close the environment; a store closed by its owner is known to be in order.

        Waits for the snapshots of other threads. Raises CheckpointError inside one of this thread.
        """
        self._end(None)

    def _end(self, error: BaseException | None) -> None:
        """Close, because of an error or not. After damage the store stays one that was not closed: its next
        owner verifies it, instead of failing in the same way.
        """
        self._environment.close()
        if isinstance(error, DAMAGE):
            return
        owner = StoreOwner.read(self.files.owner) if self._writable else None
        if owner is not None and owner.is_this_process():
            self.files.owner.unlink(missing_ok=True)

    def __enter__(self) -> "CheckpointStore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(error)

    # ---- writing: every transaction checks the token first

    def commit(
        self, blocks: Sequence[Block], *, token: int, quarantine: Sequence[QuarantineEntry] = ()
    ) -> None:
        """Write blocks, and the quarantine entries that belong to them, in one durable transaction.

        Raises:
            StaleToken: a higher token was seen; nothing of this call was written.
            DiskFull: no room; nothing of this call was written.
            ValueError: no block can hold what one of these holds; nothing of this call was written.
            CheckpointError: this thread has a snapshot open.
        """
        job_digest = self.job_digest()
        sizes = [encoded_bytes(block) for block in blocks]
        buffer = bytearray(max(sizes, default=0))
        entries = [(as_key(entry.ordinal), entry.encode()) for entry in quarantine]
        known = self.kinds()
        kinds = tuple(dict.fromkeys([*known, self._kind])) if blocks and self._kind else known
        with self._transaction(token) as recorded:
            for block, num_bytes in zip(blocks, sizes, strict=True):
                make = partial(encode_into, buffer, block, job_digest)
                recorded.put_made(as_key(block.batch_idx), make, num_bytes, db=self._blocks)
            for key, content in entries:
                recorded.put(key, seal(key, content), db=self._records.quarantine)
            if kinds != known:
                recorded.put(KINDS, seal(KINDS, encode_kinds(kinds)), db=self._records.meta)

    def set_done(self, record: DoneRecord, *, token: int) -> None:
        """Name the published result. Raises StaleToken and DiskFull as `commit` does."""
        with self._transaction(token) as recorded:
            recorded.put(DONE, seal(DONE, record.encode()), db=self._records.meta)

    def drop(self, batch_indices: Iterable[int], *, token: int) -> None:
        """Remove batches, so that they are computed again; the done record goes with them."""
        with self._transaction(token) as recorded:
            recorded.delete(DONE, db=self._records.meta)
            for index in batch_indices:
                recorded.delete(as_key(index), db=self._blocks)

    @contextlib.contextmanager
    def _transaction(self, token: int) -> Iterator[Recorded]:
        recorded = Recorded()
        yield recorded
        self._environment.write(recorded, check=lambda transaction: self._check_token(transaction, token))

    def _check_token(self, transaction: lmdb.Transaction, token: int) -> None:
        floor = self._records.token(transaction)
        if token < floor:
            raise StaleToken(f"{self.path}: token {token} is fenced, {floor} was seen")

    def _begin(self, job_digest: bytes, plan: str, token: int) -> None:
        """Claim a new store for its job, or hold an old one against it; then raise the floor."""
        begun = self._check_format()
        self.check()  # also of a store that was closed: writing to damaged pages spoils sound ones
        expected = {JOB: job_digest, PLAN: plan.encode()}
        for key, content in expected.items():
            with self._environment.reading() as transaction:
                found = self._records.get(transaction, key)
            if found not in (None, content):
                raise WrongJob(f"{self.path}: its {key.decode()} is another one; --overwrite forgets it")
        version = str(FORMAT_VERSION).encode()
        records = {**expected, SEALED_FORMAT: version, TOKEN: str(token).encode()}
        if begun is None:
            records[UUID] = uuid.uuid4().hex.encode()
        with self._transaction(token) as recorded:
            for key, content in records.items():
                recorded.put(key, seal(key, content), db=self._records.meta)
            recorded.put(FORMAT, version, db=self._records.meta)

    def _check_format(self) -> bytes | None:
        with self._environment.reading() as transaction:
            return self._records.check_format(transaction)


def _take_over(files: StoreFiles, token: int) -> tuple[int, ...]:
    """End a living owner, look at what it left, and answer which batches are damaged."""
    owner = StoreOwner.read(files.owner)
    if owner is not None and owner.token > token:
        # Before anything else: a zombie must not end the one that took its place.
        raise StaleToken(f"{files.path}: token {token} is fenced, {owner.token} owns the store")
    if owner is not None and not owner.is_this_process() and owner.is_alive_here():
        if owner.token == token:
            # No token could tell their commits apart, and neither has more right than the other.
            raise OwnerAlive(
                f"{files.path}: process {owner.process.pid} writes to it under the same token {token}; "
                "a second writer needs a higher one"
            )
        evict(owner)
    if not files.started.exists():
        files.forget_unstarted()
        return ()
    try:
        files.check()
    except StoreDamaged:
        files.set_aside()
        return ()
    if not files.owner.exists():
        return ()
    report = verify_store(files.path)
    if report.newer:
        raise NewerFormat(str(report.error))
    if not report.readable:
        files.set_aside()
    return report.damaged if report.readable else ()
