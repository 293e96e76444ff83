"""Files that are there whole or not at all, also after a power loss; and a full disk as one clear line."""

import contextlib
import errno
import io
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import xxhash

from checkpoint.store_files import sync_directory
from queue_app.errors import DiskFull
from queue_app.host.limits import file_too_large, is_file_too_large

_CHUNK_BYTES = 4 << 20


def write_durably(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write `data` to a temporary name, fsync, rename to `path`, fsync the directory.

    Raises:
        DiskFull: there is no room; what stood at `path` before stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with room_for(path), removed_on_failure(temporary):
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        rename_durably(temporary, path)


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


def make_own_directory(path: Path) -> Path:
    """Make a directory for this user alone, and those above it. Raises as `require_own_directory`."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    require_own_directory(path)
    return path


def require_own_directory(path: Path) -> None:
    """Raises OSError where it is not there, or another user could write into it."""
    found = path.lstat()
    foreign = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or foreign:
        raise PermissionError(errno.EACCES, "not a directory of this user alone", str(path))


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
