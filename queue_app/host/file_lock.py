"""The file lock on a job directory: one producer or coordinator at a time, however it ends."""

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from checkpoint.store_files import make_directory
from queue_app.errors import JobBusy, UsageError
from queue_app.job.spec import JobDir

TRIES = 25
TRY_EVERY_SECONDS = 0.02
"""Whoever only looks whether a lock is held holds it for a moment."""


def is_held(path: Path) -> bool:
    """True while a process has this lock."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


class FileLock:
    """An flock; the kernel lets go of it when its process dies."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1

    def acquire(self, *, wait: bool = False) -> None:
        """Take it.

        Raises:
            JobBusy: it is taken, and `wait` is false; names the holder.
            FileNotFoundError: its holder removed it, and its directory, while this one waited.
        """
        # Python makes descriptors non-inheritable: a child that outlives us does not keep the lock.
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self._lock(descriptor, wait=wait)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode(errors="replace").strip() or "?"
            os.close(descriptor)
            raise JobBusy(f"{self.path.parent}: process {holder} is working on it") from None
        if os.fstat(descriptor).st_nlink == 0:
            os.close(descriptor)
            raise FileNotFoundError(self.path)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        self._descriptor = descriptor

    @staticmethod
    def _lock(descriptor: int, *, wait: bool) -> None:
        if wait:
            return fcntl.flock(descriptor, fcntl.LOCK_EX)
        for _ in range(TRIES):
            with contextlib.suppress(BlockingIOError):
                return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            time.sleep(TRY_EVERY_SECONDS)
        return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> "FileLock":
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


@contextlib.contextmanager
def job_directory(job_dir: JobDir, *, wait: bool = False) -> Iterator[None]:
    """Make the directory where it is missing, and hold its lock.

    One that was made for a job that did not come to be is gone again afterwards.

    Raises:
        UsageError: it is a file.
        JobBusy: another process works on it, and `wait` is false.
    """
    if job_dir.path.is_file():
        raise UsageError(f"{job_dir.path}: a file; a job directory is made where there is nothing yet")
    made, lock = _make_and_lock(job_dir.path, wait=wait)
    try:
        yield
    finally:
        if made and not job_dir.job_json.exists():
            shutil.rmtree(job_dir.path)
        lock.release()


def _make_and_lock(path: Path, *, wait: bool) -> tuple[bool, FileLock]:
    while True:
        made = not path.exists()
        make_directory(path)
        lock = FileLock(path / "lock")
        with contextlib.suppress(FileNotFoundError):
            lock.acquire(wait=wait)
            return made, lock
