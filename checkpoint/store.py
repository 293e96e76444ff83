"""CheckpointStore: the committed batches of one shard, in one LMDB environment.

Its invariant: a block is in the store only if it was written under a token that was, at that moment, not
below any token the store had seen. Every write checks that inside its own transaction.
"""

import contextlib
import json
import threading
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

import lmdb
import numpy as np
import numpy.typing as npt

from checkpoint.block import Block, decode, encode
from checkpoint.environment import Recorded, open_environment, write
from checkpoint.errors import CheckpointError, NewerFormat, StaleToken, StoreDamaged, WrongJob
from checkpoint.files import StoreFiles, clear_when_full, make_directory
from checkpoint.owner import StoreOwner, evict
from checkpoint.records import DoneRecord, QuarantineEntry

FORMAT_VERSION = 1
MAP_SIZE_BYTES = 64 << 20
"""Where a new store's map begins; it doubles on line whenever it is full."""

BLOCKS, META, QUARANTINE = b"blocks", b"meta", b"quarantine"
_FORMAT, _UUID, _JOB, _PLAN, _TOKEN, _DONE = b"format", b"uuid", b"job_digest", b"plan", b"token", b"done"


class CheckpointStore:
    """Use `open` or `open_readonly`. Safe to use from several threads of one process."""

    def __init__(self, path: Path, environment: lmdb.Environment, *, writable: bool) -> None:
        self.path = path
        self.files = StoreFiles(path)
        self._environment = environment
        self._writable = writable
        self._guard = threading.RLock()
        with self._guard:
            self._blocks, self._meta, self._quarantine = (
                environment.open_db(name, create=writable) for name in (BLOCKS, META, QUARANTINE)
            )

    # ---- opening and closing

    @classmethod
    def open(
        cls, path: Path, *, job_digest: bytes, plan: str, token: int, map_size: int = MAP_SIZE_BYTES
    ) -> "CheckpointStore":
        """Become the store's owner and open it for writing.

        A living local owner is ended first. A store that was not closed is verified in a child process:
        damaged blocks are dropped, so that their batches are computed again, and a store that cannot be
        read is set aside as `<path>.damaged-N`.

        Args:
            path: the store's directory; made when it is not there.
            job_digest: 16 bytes, in every block.
            plan: fingerprint of the batch plan that gives the batch indices their meaning.
            token: the fencing token of this owner's lease.

        Raises:
            StaleToken: the store has seen a higher token.
            WrongJob: the store belongs to another job or plan.
            NewerFormat: it was written by a newer version.
            OwnerAlive: the last owner runs on this host and could not be ended.
            DiskFull: there is no room.
        """
        with clear_when_full(path):
            return cls._open(path, job_digest, plan, token, map_size)

    @classmethod
    def _open(cls, path: Path, job_digest: bytes, plan: str, token: int, map_size: int) -> "CheckpointStore":
        make_directory(path)
        damaged = _take_over(StoreFiles(path), token)
        make_directory(path)
        StoreOwner.current(token).write(StoreFiles(path).owner)
        store = cls(path, open_environment(path, map_size, readonly=False), writable=True)
        try:
            store._begin(job_digest, plan, token)
            if damaged:
                store.drop(damaged, token=token)
            store.files.mark_started()
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def open_readonly(cls, path: Path) -> "CheckpointStore":
        """Open a store to look at; its owner may go on writing meanwhile.

        Raises:
            StoreDamaged: there is no store, or its file is cut off. Broken pages inside it can still kill
                this process: `verify_store` looks from a child.
        """
        StoreFiles(path).check()
        try:
            return cls(path, open_environment(path, 0, readonly=True), writable=False)
        except lmdb.Error as error:
            raise StoreDamaged(f"{path}: {error}") from None

    @staticmethod
    def floor(path: Path) -> int:
        """The highest token that the store has seen; 0 where there is none, or none that can be read."""
        from checkpoint.verify import verify_store

        files = StoreFiles(path)
        if not files.data.exists():
            return 0
        if files.owner.exists():
            # Not closed: it may be damaged, and looking at it may be deadly.
            return verify_store(path).token
        try:
            with CheckpointStore.open_readonly(path) as store:
                return store.token()
        except CheckpointError:
            return 0

    @staticmethod
    def discard(path: Path) -> None:
        """Remove a store that is no longer needed."""
        StoreFiles(path).discard()

    def close(self) -> None:
        """Close the environment; a store closed by its owner is known to be in order."""
        with self._guard:
            self._environment.close()
            owner = StoreOwner.read(self.files.owner) if self._writable else None
            if owner is not None and owner.is_this_process():
                self.files.owner.unlink()

    def __enter__(self) -> "CheckpointStore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- writing: every transaction checks the token first

    def commit(
        self, blocks: Sequence[Block], *, token: int, quarantine: Sequence[QuarantineEntry] = ()
    ) -> None:
        """Write blocks, and the quarantine entries that belong to them, in one durable transaction.

        Raises:
            StaleToken: a higher token was seen; nothing of this call was written.
            DiskFull: no room; nothing of this call was written.
        """
        job_digest = self.job_digest()
        values = [(_key(block.batch_idx), encode(block, job_digest)) for block in blocks]
        entries = [(_key(entry.ordinal), json.dumps(asdict(entry)).encode()) for entry in quarantine]
        with self._transaction(token) as transaction:
            for key, value in values:
                transaction.put(key, value, db=self._blocks)
            for key, value in entries:
                transaction.put(key, value, db=self._quarantine)

    def set_done(self, record: DoneRecord, *, token: int) -> None:
        """Name the published result. Raises StaleToken and DiskFull as `commit` does."""
        with self._transaction(token) as transaction:
            transaction.put(_DONE, record.encode(), db=self._meta)

    def drop(self, batch_indices: Iterable[int], *, token: int) -> None:
        """Remove batches, so that they are computed again; the done record goes with them."""
        with self._transaction(token) as transaction:
            transaction.delete(_DONE, db=self._meta)
            for index in batch_indices:
                transaction.delete(_key(index), db=self._blocks)

    @contextlib.contextmanager
    def _transaction(self, token: int) -> Iterator[Recorded]:
        with self._guard:
            recorded = Recorded()
            yield recorded
            write(
                self._environment, recorded, check=lambda transaction: self._check_token(transaction, token)
            )

    def _check_token(self, transaction: lmdb.Transaction, token: int) -> None:
        floor = int(transaction.get(_TOKEN, b"0", db=self._meta))
        if token < floor:
            raise StaleToken(f"{self.path}: token {token} is fenced, {floor} was seen")

    def _begin(self, job_digest: bytes, plan: str, token: int) -> None:
        """Claim a new store for its job, or hold an old one against it; then raise the floor."""
        expected = {_FORMAT: str(FORMAT_VERSION).encode(), _JOB: job_digest, _PLAN: plan.encode()}
        with self._environment.begin() as transaction:
            known = {key: transaction.get(key, db=self._meta) for key in expected}
        if (version := known[_FORMAT]) is not None and int(version) > FORMAT_VERSION:
            raise NewerFormat(f"{self.path}: format {int(version)} is newer than {FORMAT_VERSION}")
        for key, value in expected.items():
            if known[key] is not None and known[key] != value:
                raise WrongJob(f"{self.path}: its {key.decode()} is another one; --overwrite forgets it")
        with self._transaction(token) as transaction:
            for key, value in expected.items():
                transaction.put(key, value, db=self._meta)
            if known[_FORMAT] is None:
                transaction.put(_UUID, uuid.uuid4().hex.encode(), db=self._meta)
            transaction.put(_TOKEN, str(token).encode(), db=self._meta)

    # ---- reading

    def token(self) -> int:
        """The floor: the highest token that was seen."""
        return int(self._get_meta(_TOKEN) or 0)

    def committed(self) -> frozenset[int]:
        """The indices of the batches that are committed; reads keys only."""
        with self._reading() as transaction, transaction.cursor(db=self._blocks) as cursor:
            return frozenset(int.from_bytes(key, "big") for key in cursor.iternext(values=False))

    def committed_ordinals(self) -> npt.NDArray[np.uint64]:
        """The records of which a row is committed, ascending, each once."""
        ordinals = [block.ordinals for block in self.blocks()]
        return np.unique(np.concatenate([np.empty(0, np.uint64), *ordinals]))

    def blocks(self) -> Iterator[Block]:
        """Every committed block in batch order, verified. Raises BlockDamaged at the first damaged one."""
        job_digest = self.job_digest()
        for batch_idx, value in self._values():
            yield decode(value, job_digest=job_digest, batch_idx=batch_idx)

    def scan(self, job_digest: bytes | None = None) -> Iterator[tuple[int, Block | None]]:
        """Every committed batch in order, None in the place of a block that fails its checks."""
        expected = job_digest or self.job_digest()
        for batch_idx, value in self._values():
            try:
                yield batch_idx, decode(value, job_digest=expected, batch_idx=batch_idx)
            except CheckpointError:
                yield batch_idx, None

    def _values(self) -> Iterator[tuple[int, bytes]]:
        with self._reading() as transaction, transaction.cursor(db=self._blocks) as cursor:
            for key, value in cursor:
                yield int.from_bytes(key, "big"), bytes(value)

    def read(self, batch_idx: int) -> Block:
        """One committed batch. Raises KeyError when it is not there, BlockDamaged when it is damaged."""
        with self._reading() as transaction:
            value = transaction.get(_key(batch_idx), db=self._blocks)
        if value is None:
            raise KeyError(batch_idx)
        return decode(value, job_digest=self.job_digest(), batch_idx=batch_idx)

    def quarantine(self) -> tuple[QuarantineEntry, ...]:
        """The records that were set aside while computing, by ordinal."""
        with self._reading() as transaction, transaction.cursor(db=self._quarantine) as cursor:
            return tuple(QuarantineEntry(**json.loads(bytes(value))) for _, value in cursor)

    def done_record(self) -> DoneRecord | None:
        """Which published file is the result; None while there is none."""
        value = self._get_meta(_DONE)
        return None if value is None else DoneRecord.decode(value)

    def job_digest(self) -> bytes:
        """The job that the store belongs to. Raises StoreDamaged when it names none."""
        digest = self._get_meta(_JOB)
        if digest is None:
            raise StoreDamaged(f"{self.path}: it names no job")
        return digest

    def _get_meta(self, key: bytes) -> bytes | None:
        with self._reading() as transaction:
            value = transaction.get(key, db=self._meta)
        return None if value is None else bytes(value)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[lmdb.Transaction]:
        with self._guard, self._environment.begin() as transaction:
            yield transaction


def _take_over(files: StoreFiles, token: int) -> tuple[int, ...]:
    """End a living owner, look at what it left, and answer which batches are damaged."""
    from checkpoint.verify import verify_store

    owner = StoreOwner.read(files.owner)
    if owner is not None and owner.token > token:
        # Before anything else: a zombie must not end the one that took its place.
        raise StaleToken(f"{files.path}: token {token} is fenced, {owner.token} owns the store")
    if owner is not None and not owner.is_this_process() and owner.is_alive_here():
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
    if not report.readable:
        files.set_aside()
    return report.damaged if report.readable else ()


def _key(number: int) -> bytes:
    """Big-endian, so that LMDB's order is the numbers' order."""
    return number.to_bytes(8, "big")
