"""An LMDB environment that grows while it is used, and says clearly when the disk is full.

Its invariant: the map is moved or removed only while no transaction of this process lives. LMDB itself does
not look: it would take the pages from under a reader.
"""

import contextlib
import errno
import os
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import lmdb

from checkpoint.errors import AlreadyOpen, CheckpointError, DiskFailed
from checkpoint.store_files import DISK_FULL, disk_full


class Environment:
    """One open environment. Safe to use from several threads of one process."""

    def __init__(self, path: Path, environment: lmdb.Environment) -> None:
        self.path = path
        self._lmdb = environment
        self._map = _MapGuard(path)
        self._writing = threading.Lock()
        self._pid = os.getpid()

    @classmethod
    def open(cls, path: Path, map_size: int, *, readonly: bool) -> "Environment":
        """sync and metasync on, writemap off: keeps every acknowledged commit, and no SIGBUS.

        Raises:
            AlreadyOpen: this process has it open.
            DiskFull: there is no room.
            DiskFailed: the system refused it.
        """
        try:
            environment = lmdb.open(
                str(path),
                map_size=max(map_size, _existing_bytes(path)) if not readonly else 0,
                subdir=True,
                readonly=readonly,
                create=not readonly,
                sync=True,
                metasync=True,
                writemap=False,
                max_dbs=3,
                readahead=False,
            )
        except lmdb.Error as error:
            if "already open" in str(error):  # LMDB has no number for it
                raise AlreadyOpen(f"{path}: this process has the store open already") from None
            raise _made_clear(error, path) from None
        environment.reader_check()
        return cls(path, environment)

    def open_db(self, name: bytes, *, create: bool) -> Any:
        """Raises DiskFull and DiskFailed as `write` does: to create one is to write."""
        try:
            return self._lmdb.open_db(name, create=create)
        except lmdb.Error as error:
            raise _made_clear(error, self.path) from None

    def close(self) -> None:
        """Waits for the snapshots of other threads. Raises CheckpointError inside one of this thread's.

        Nothing in a child that was forked: LMDB would take the parent's readers from it.
        """
        if self._is_forked():
            return
        with self._map.alone("be closed"):
            self._lmdb.close()

    @contextlib.contextmanager
    def reading(self, *, buffers: bool = False) -> Iterator[lmdb.Transaction]:
        """A read transaction; with `buffers` it answers memory views that are valid while it lives.

        Raises CheckpointError in a child that was forked after the environment was opened.
        """
        self._refuse_when_forked()
        while True:
            with self._map.shared():
                try:
                    transaction = self._lmdb.begin(buffers=True) if buffers else self._lmdb.begin()
                except lmdb.MapResizedError:
                    transaction = None  # another process has grown the file
                if transaction is not None:
                    with transaction:
                        yield transaction
                    return
            self._resize(0)

    def write(self, recorded: "Recorded", *, check: Callable[[lmdb.Transaction], None]) -> None:
        """Do what was recorded in one durable transaction; `check` may refuse it from inside.

        Raises:
            DiskFull: no room; nothing was written.
            DiskFailed: the disk did not take it; nothing was written.
            CheckpointError: this thread has a snapshot open, for whose end the map might have to wait; or
                this is a child that was forked after the environment was opened.
        """
        self._refuse_when_forked()
        self._map.refuse_within("be written")
        with self._writing:
            self._make_room(recorded.num_bytes)
            while True:
                try:
                    with self._map.shared(), self._lmdb.begin(write=True) as transaction:
                        check(transaction)
                        recorded.replay(transaction)
                    return
                except lmdb.MapFullError:
                    self._resize(2 * self._lmdb.info()["map_size"])
                except lmdb.MapResizedError:
                    self._resize(0)
                except (lmdb.Error, OSError) as error:
                    raise _made_clear(error, self.path, recorded.num_bytes) from None

    def _is_forked(self) -> bool:
        return os.getpid() != self._pid

    def _refuse_when_forked(self) -> None:
        """Locks and readers are those of the parent: LMDB forbids to use them here, and does not look."""
        if self._is_forked():
            raise CheckpointError(f"{self.path}: opened by process {self._pid}, which forked; open it anew")

    def _make_room(self, num_bytes: int) -> None:
        """Grow the map first: a transaction that fills it is undone, and all of it written again."""
        info = self._lmdb.info()
        used_bytes = (info["last_pgno"] + 1) * self._lmdb.stat()["psize"]
        map_size = info["map_size"]
        while used_bytes + num_bytes > map_size:
            map_size *= 2
        if map_size > info["map_size"]:
            self._resize(map_size)

    def _resize(self, map_size: int) -> None:
        """0: as large as the file says."""
        with self._map.alone("grow"):
            self._lmdb.set_mapsize(map_size)


class _MapGuard:
    """Transactions share the map; who moves it is alone."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed = threading.Condition()
        self._inside: Counter[int] = Counter()
        self._num_waiting = 0

    @contextlib.contextmanager
    def shared(self) -> Iterator[None]:
        thread = threading.get_ident()
        with self._changed:
            # Who is inside may go further in, or the one that waits outside and this one would never end.
            self._changed.wait_for(lambda: not self._num_waiting or thread in self._inside)
            self._inside[thread] += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside[thread] -= 1
                self._inside += Counter()  # keeps what is above zero
                self._changed.notify_all()

    @contextlib.contextmanager
    def alone(self, what: str) -> Iterator[None]:
        self.refuse_within(what)
        with self._changed:
            self._num_waiting += 1
            try:
                self._changed.wait_for(lambda: not self._inside)
                yield
            finally:
                self._num_waiting -= 1
                self._changed.notify_all()

    def refuse_within(self, what: str) -> None:
        with self._changed:
            if threading.get_ident() in self._inside:
                raise CheckpointError(f"{self._path}: cannot {what} inside a snapshot of the same thread")


Value: TypeAlias = bytes | memoryview


class Recorded:
    """What a transaction will do, noted so that it can be done again after the map has grown."""

    def __init__(self) -> None:
        self._steps: list[tuple[bytes, Callable[[], Value] | None, Any]] = []
        self.num_bytes = 0
        """Of the values; what the map needs for them is a little more."""

    def put(self, key: bytes, value: bytes, *, db: Any) -> None:
        self.put_made(key, lambda: value, len(value), db=db)

    def put_made(self, key: bytes, make: Callable[[], Value], num_bytes: int, *, db: Any) -> None:
        """`make` is asked for the value when it is written, so that one of many is there at a time."""
        self._steps.append((key, make, db))
        self.num_bytes += num_bytes

    def delete(self, key: bytes, *, db: Any) -> None:
        self._steps.append((key, None, db))

    def replay(self, transaction: lmdb.Transaction) -> None:
        for key, make, db in self._steps:
            if make is None:
                transaction.delete(key, db=db)
            else:
                transaction.put(key, make(), db=db)


def _existing_bytes(path: Path) -> int:
    """A map smaller than the file would be refused; leave room for the next commits too."""
    data = path / "data.mdb"
    return 2 * data.stat().st_size if data.exists() else 0


def _made_clear(error: Exception, path: Path, num_bytes: int = 0) -> Exception:
    """A full disk by its name, and all else that the system refused; what LMDB itself says, as it is.

    When only a part of `num_bytes` found room, LMDB says what it says of a broken disk.
    """
    code = getattr(error, "code" if isinstance(error, lmdb.Error) else "errno", None)
    if code in DISK_FULL or (code == errno.EIO and shutil.disk_usage(path).free < num_bytes):
        return disk_full(path)
    is_systems = code is not None and code > 0 and code != errno.EINVAL  # LMDB's own are below zero
    return DiskFailed(f"{path}: {error}") if is_systems else error
