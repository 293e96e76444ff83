"""The files of one store, looked at without LMDB: it can kill the process that maps a damaged file."""

import contextlib
import errno
import logging
import os
import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from checkpoint.errors import DiskFull, StoreDamaged

log = logging.getLogger(__name__)

_META = struct.Struct("<16xII16xI92xQQ")
"""LMDB 0.9's meta page (mdb.c: MDB_page header, then MDB_meta): magic, version, page size, last page,
transaction."""
_LMDB_MAGIC = 0xBEEFC0DE
_DATA_VERSION = 1
_PAGE_SIZES = [1 << bits for bits in range(8, 17)]

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
ROOM_LEAST_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class StoreFiles:
    """Names inside a store's directory."""

    path: Path

    @property
    def data(self) -> Path:
        return self.path / "data.mdb"

    @property
    def owner(self) -> Path:
        """There while the store is open: after a crash it says that it was not closed."""
        return self.path / "owner.json"

    @property
    def started(self) -> Path:
        """Says that a store was begun here: without it, a missing data file only means not yet."""
        return self.path / "started"

    def mark_started(self) -> None:
        if not self.started.exists():
            descriptor = os.open(self.started, os.O_WRONLY | os.O_CREAT, 0o644)
            os.fsync(descriptor)
            os.close(descriptor)
            sync_directory(self.path)

    def forget_unstarted(self) -> None:
        """Remove a data file that was torn at the first opening: nothing was ever committed to it."""
        try:
            self.check()
        except StoreDamaged:
            self.data.unlink(missing_ok=True)

    def check(self) -> None:
        """Raises StoreDamaged when the data file is missing, empty, cut off or no LMDB file at all."""
        if not self.data.exists():
            raise StoreDamaged(f"{self.data}: missing, though a store was begun here")
        size = self.data.stat().st_size
        needed = _bytes_in_use(self.data)
        if size < needed:
            raise StoreDamaged(f"{self.data}: cut off: {size} bytes of at least {needed}")

    def discard(self) -> None:
        """Remove the whole store. What says that one was begun goes first: half of one is no damage then."""
        with contextlib.suppress(FileNotFoundError):
            self.started.unlink(missing_ok=True)
            sync_directory(self.path)
            shutil.rmtree(self.path)

    def set_aside(self) -> Path:
        """Rename the whole store to the first free `<path>.damaged-N`."""
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.damaged-{number}")).exists():
            number += 1
        self.path.rename(aside)
        sync_directory(aside.parent)
        log.warning("store moved aside as %s", aside)
        return aside


@contextlib.contextmanager
def clear_when_full(path: Path) -> Iterator[None]:
    """Say so when there is no room. Raises DiskFull."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL:
            raise disk_full(path) from None
        raise


def require_room(path: Path) -> None:
    """Raises DiskFull where a store cannot even be opened: LMDB maps its file of locks, and a page of that
    which finds no room ends the process (SIGBUS).
    """
    if shutil.disk_usage(path).free < ROOM_LEAST_BYTES:
        raise disk_full(path)


def disk_full(path: Path) -> DiskFull:
    return DiskFull(f"{path}: the disk is full; what is committed stays, make room and resume")


def make_directory(path: Path, mode: int = 0o777) -> None:
    """Make a directory, and those above it that are missing, under names that survive a power loss.

    `mode`, less the umask, is that of the directory itself.
    """
    if not path.is_dir():
        make_directory(path.parent)
        path.mkdir(mode, exist_ok=True)
        sync_directory(path.parent)


def make_store_directory(path: Path) -> None:
    """Make a store's directory, as open as the one that it lies in."""
    make_directory(path.parent)
    if not path.is_dir():
        make_directory(path)
        path.chmod(path.parent.stat().st_mode & 0o2777)


def open_as_directory(path: Path) -> None:
    """Give the files of a new store the rights of its directory, whatever the umask."""
    rights = path.stat().st_mode & 0o666
    for file in path.iterdir():
        with contextlib.suppress(PermissionError):  # another user's, of the same group
            file.chmod(rights)


def write_as_directory(path: Path, text: str) -> None:
    """Write a file that nobody may read who may not read the directory that it lies in."""
    rights = path.parent.stat().st_mode & 0o666
    with open(path, "w", opener=lambda name, flags: os.open(name, flags, rights)) as file:
        file.write(text)


def sync_directory(path: Path) -> None:
    """Make names in a directory survive a power loss."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _bytes_in_use(data: Path) -> int:
    """What the newer of the two meta pages says that the file must hold."""
    with data.open("rb") as file:
        first = _read_meta(file.read(_META.size))
        if first is None:
            raise StoreDamaged(f"{data}: not an LMDB file")
        file.seek(first.page_size)
        second = _read_meta(file.read(_META.size))
    if second is None or second.page_size != first.page_size:
        raise StoreDamaged(f"{data}: its second meta page is missing or damaged")
    newest = max(first, second, key=lambda meta: meta.transaction)
    return (newest.last_page + 1) * newest.page_size


class _Meta(NamedTuple):
    page_size: int
    last_page: int
    transaction: int


def _read_meta(page: bytes) -> _Meta | None:
    """None for what is no meta page. LMDB divides by the page size that it finds there."""
    if len(page) < _META.size:
        return None
    magic, version, *fields = _META.unpack(page)
    meta = _Meta(*fields)
    sound = (magic, version) == (_LMDB_MAGIC, _DATA_VERSION) and meta.page_size in _PAGE_SIZES
    return meta if sound else None
