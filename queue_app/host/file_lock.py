"""The file lock on a job directory: one producer or coordinator at a time, however it ends."""

import contextlib
import fcntl
import os
import time
from pathlib import Path
from types import TracebackType

from queue_app.errors import JobBusy
from queue_app.host.own_files import open_own

TRIES = 25
TRY_EVERY_SECONDS = 0.02
"""Whoever only looks whether a lock is held holds it for a moment."""


def is_held(path: Path) -> bool:
    """True while a process has this lock."""
    try:
        descriptor = open_own(path, os.O_RDONLY)
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
    """An flock; the kernel lets go of it when its process dies. `wait` until it is free, or be refused."""

    def __init__(self, path: Path, *, wait: bool = False) -> None:
        self.path = path
        self.wait = wait
        self._descriptor = -1

    def acquire(self) -> None:
        """Take it.

        Raises:
            JobBusy: it is taken; names the holder.
            NotOurs: what stands there is not a file of this user alone.
            FileNotFoundError: its holder removed it, and its directory, while this one waited.
        """
        # Descriptors of ours are closed at exec: a child that outlives us does not keep the lock.
        descriptor = open_own(self.path, os.O_RDWR | os.O_CREAT)
        try:
            self._lock(descriptor)
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

    def _lock(self, descriptor: int) -> None:
        if self.wait:
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
