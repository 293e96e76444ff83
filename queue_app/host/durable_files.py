"""Files that are there whole or not at all, also after a power loss; and a full disk as one clear line."""

import contextlib
import errno
import io
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import xxhash

from checkpoint.store_files import sync_directory
from queue_app.errors import DiskFull
from queue_app.host.limits import file_too_large, is_file_too_large

_CHUNK_BYTES = 4 << 20
NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)
"""What link(2) says on file systems without them: FAT, and some of those that lie on a network."""


def write_durably(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write `data` to a temporary name, fsync, rename to `path`, fsync the directory.

    Raises:
        DiskFull: there is no room; what stood at `path` before stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with room_for(path), removed_on_failure(temporary):
        _write_synced(temporary, data, os.O_TRUNC, mode)
        rename_durably(temporary, path)


def create_durably(path: Path, data: bytes) -> None:
    """Write `data` to `path`, durably, unless something stands there, which then stays as it is.

    Of many who create one file at the same time, on whatever hosts, one succeeds, and nobody sees a part of
    it: a hard link gives a name only where there is none. On a file system without hard links the file is
    made under its own name, by one as well, but a reader may come before its last byte, and a crash may leave
    a part of it: whoever reads it must tell that from a whole one.

    Raises:
        DiskFull: there is no room.
    """
    directory = path.parent
    # No number of a process: others, on other hosts, may have the same.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    with room_for(path):
        try:
            _write_synced(temporary, data, os.O_EXCL)
            _link_or_write(temporary, path, data)
        finally:
            temporary.unlink(missing_ok=True)
        # Also where it was there already: its maker may not have come so far, and what is believed must last.
        sync_directory(directory)


def _link_or_write(temporary: Path, path: Path, data: bytes) -> None:
    with contextlib.suppress(FileExistsError):
        try:
            os.link(temporary, path)
        except OSError as error:
            if error.errno not in NO_HARD_LINKS:
                raise
            _write_synced(path, data, os.O_EXCL)


def _write_synced(path: Path, data: bytes, flags: int, mode: int = 0o644) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | flags, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def rename_durably(temporary: Path, path: Path) -> None:
    """Rename a file that is already fsynced, then fsync its directory, so that the name survives."""
    temporary.replace(path)
    sync_directory(path.parent)


def sync_file(path: Path) -> None:
    """fsync a file that somebody else's library has written."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class DigestedFile(io.BufferedWriter):
    """A new file, written from its beginning to its end, and the xxh3-128 of what was written: what
    `file_digest` reads back, unless a byte was lost on the way to the disk."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path, "w"))
        self._state = xxhash.xxh3_128()

    def write(self, data: Any) -> int:
        self._state.update(data)
        return super().write(data)

    def hexdigest(self) -> str:
        return self._state.hexdigest()


def file_digest(path: Path) -> str:
    """xxh3-128 (hex) of a file's bytes."""
    state = xxhash.xxh3_128()
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK_BYTES):
            state.update(chunk)
    return state.hexdigest()


def has_digest(path: Path, digest: str) -> bool:
    """True for a file that is there, with exactly these bytes."""
    return path.is_file() and file_digest(path) == digest


@contextlib.contextmanager
def room_for(path: Path) -> Iterator[None]:
    """Turn a full disk, and a limit of this process, into one clear line. Raises DiskFull or LimitTooLow."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
            raise DiskFull(f"{path}: no room on the disk; free some and run the same command again") from None
        if is_file_too_large(error):
            raise file_too_large(path) from None
        raise


@contextlib.contextmanager
def removed_on_failure(temporary: Path) -> Iterator[None]:
    """Leave no temporary file or directory behind when filling it failed."""
    try:
        yield
    except BaseException:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)
        raise
