"""The file lock on a job directory: one producer or coordinator at a time, however it ends."""

import fcntl
import os
from pathlib import Path
from types import TracebackType

from queue_app.errors import HoldfastError


class JobBusy(HoldfastError):
    """Raised when another process holds the job directory."""


class FileLock:
    """An flock; the kernel lets go of it when its process dies."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1

    def acquire(self, *, wait: bool = False) -> None:
        """Raises JobBusy, naming the holder, when it is taken and `wait` is false."""
        # Python makes descriptors non-inheritable: a child that outlives us does not keep the lock.
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode(errors="replace").strip() or "?"
            os.close(descriptor)
            raise JobBusy(f"{self.path.parent}: process {holder} is working on it") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        self._descriptor = descriptor

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
