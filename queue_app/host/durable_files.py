"""Files that are there whole or not at all, also after a power loss; and a full disk as one clear line."""

import contextlib
import errno
import io
import os
import shutil
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import xxhash

from checkpoint.store_files import sync_directory
from queue_app.errors import DiskFull
from queue_app.host.limits import file_too_large, is_file_too_large
from queue_app.host.own_files import open_own, opener

_CHUNK_BYTES = 4 << 20
_WRITERS = 8
_FILES_AT_ONCE = 64
_BYTES_AT_ONCE = 1 << 20
_BYTES_UNDER_WAY = 32 << 20
AS_UMASK_SAYS = 0o666
"""The mode of what a user is handed: an output, and what lies beside it."""
NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)
"""What link(2) says on file systems without them: FAT, and some of those that lie on a network."""


def write_durably(path: Path, data: bytes, *, mode: int | None = None) -> None:
    """Write `data` to a temporary name, fsync, rename to `path`, fsync the directory.

    The file is this user's alone, or the shared group's; AS_UMASK_SAYS is for what is handed on.

    Raises:
        DiskFull: there is no room; what stood at `path` before stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with room_for(path), removed_on_failure(temporary):
        temporary.unlink(missing_ok=True)  # of a process that had our number, and was killed
        _write_synced(temporary, data, mode)
        rename_durably(temporary, path)


def create_durably(path: Path, data: bytes, *, mode: int | None = None) -> bool:
    """Write `data` to `path`, durably, unless something stands there, which then stays as it is; answers
    whether it was written.

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
            _write_synced(temporary, data, mode)
            is_made = _link_or_write(temporary, path, data, mode)
        finally:
            temporary.unlink(missing_ok=True)
        # Also where it was there already: its maker may not have come so far, and what is believed must last.
        sync_directory(directory)
    return is_made


def _link_or_write(temporary: Path, path: Path, data: bytes, mode: int | None) -> bool:
    try:
        os.link(temporary, path)
    except FileExistsError:
        # A network file system may have made the link, and lost its answer.
        return temporary.stat().st_nlink == 2
    except OSError as error:
        if error.errno not in NO_HARD_LINKS:
            raise
        try:
            _write_synced(path, data, mode)
        except FileExistsError:
            return False
    return True


def _write_synced(path: Path, data: bytes, mode: int | None) -> None:
    """Raises FileExistsError where anything stands there, a link as well."""
    descriptor = open_own(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
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


def sync_tree(directory: Path) -> None:
    """fsync all files below a directory, then the directories that name them."""
    for home, _, names in os.walk(directory, topdown=False):
        for name in names:
            sync_file(Path(home) / name)
        sync_directory(Path(home))


class DurableFiles:
    """Writes many new files into a directory; on leaving, all of them and their names are durable.

    A disk syncs many files at once in little more time than one, so it is done side by side. Each has its
    name from the start, whole or not: for files that nobody looks for before something else stands.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._writers = ThreadPoolExecutor(_WRITERS)
        self._under_way: deque[tuple[Future[None], int]] = deque()
        self._bytes_under_way = 0
        self._next: list[tuple[Path, Any]] = []
        self._next_bytes = 0

    def write(self, name: str, content: Any) -> None:
        """Take `content`, bytes or a buffer, as the file's. Raises what writing earlier ones did."""
        self._next.append((self._directory / name, content))
        self._next_bytes += len(content)
        if len(self._next) == _FILES_AT_ONCE or self._next_bytes >= _BYTES_AT_ONCE:
            self._hand_over()

    def __enter__(self) -> "DurableFiles":
        return self

    def __exit__(self, error: object, *_: object) -> None:
        with self._writers:
            if error is None:
                self._hand_over()
                self._wait(0)
        if error is None:
            sync_directory(self._directory)

    def _hand_over(self) -> None:
        self._wait(_BYTES_UNDER_WAY)
        self._under_way.append((self._writers.submit(_write_new, self._next), self._next_bytes))
        self._bytes_under_way += self._next_bytes
        self._next, self._next_bytes = [], 0

    def _wait(self, bytes_most: int) -> None:
        """Until no more than this is held in memory for the writers."""
        while self._under_way and self._bytes_under_way >= bytes_most:
            written, num_bytes = self._under_way.popleft()
            written.result()
            self._bytes_under_way -= num_bytes


def _write_new(files: Sequence[tuple[Path, Any]]) -> None:
    """Write all before the first is synced: the disk has more to do at a time."""
    with contextlib.ExitStack() as stack:
        descriptors = []
        for path, content in files:
            file = stack.enter_context(open(path, "xb", opener=opener))
            file.write(content)
            file.flush()
            descriptors.append(file.fileno())
        for descriptor in descriptors:
            os.fsync(descriptor)


class DigestedFile(io.BufferedWriter):
    """A new file, written from its beginning to its end, and the xxh3-128 of what was written: what
    `file_digest` reads back, unless a byte was lost on the way to the disk."""

    def __init__(self, path: Path, *, mode: int | None = AS_UMASK_SAYS) -> None:
        path.unlink(missing_ok=True)
        super().__init__(io.FileIO(open_own(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w"))
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
