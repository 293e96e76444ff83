"""The file that HDF5 writes to: what becomes of a full disk is decided here.

HDF5 that could not write something tries again when it closes, and at last kills the process (SIGSEGV at
exit, with HDF5 2.0). So it is never told: the first failure is kept, all that follows is dropped, and the
failure is raised once HDF5 is content.
"""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py


class OutputFile(io.FileIO):
    """A new file whose writes never fail. `raise_failure` says when one would have."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self._failure: OSError | None = None

    def write(self, data: Any) -> int:
        """All of it: FileIO alone stops half-way where the room ends."""
        left = memoryview(data).cast("B")
        num_bytes = len(left)
        while left and self._failure is None:
            try:
                left = left[super().write(left) :]
            except OSError as error:
                self._failure = error
        return num_bytes

    def raise_failure(self) -> None:
        """To be called now and then, so that nothing is computed in vain. Raises OSError."""
        if self._failure is not None:
            raise self._failure


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[tuple[h5py.File, OutputFile]]:
    """Both are closed at the end. Datasets keep the order in which they were made.

    Raises:
        OSError: something could not be written.
    """
    with OutputFile(path) as output:
        try:
            with h5py.File(output, "w", track_order=True) as file:
                yield file, output
        finally:
            output.raise_failure()
