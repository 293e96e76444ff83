"""The files of a model, each read once and in order, and held against the digest in its specification.

What is read is what was hashed: no file is mapped into memory or opened a second time, so that nobody who
writes to it later changes a vector.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import xxhash

from gpu_tasks.errors import ModelLoadError
from queue_app.model.files import is_inside, open_regular
from queue_app.model.spec import ModelFile, ModelSpec

_CHUNK_BYTES = 4 << 20
"""So much is hashed while it still lies in the processor's cache."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The files that a specification names. `directory` is where they lie on this host."""

    directory: Path
    files: Mapping[str, ModelFile]

    def read(self, name: str) -> bytes:
        """The whole of a file. Raises ModelLoadError when it is not the one of the specification."""
        with self.open(name) as reader:
            return reader.read(reader.left)

    @contextmanager
    def open(self, name: str) -> Iterator["Reader"]:
        """Read a file from its begin; when the block ends, the rest of it is read and hashed too.

        Raises:
            ModelLoadError: it is not the one of the specification, or none of its files.
        """
        path = self.directory / name
        if name not in self.files:
            raise ModelLoadError(f"{path}: not among the files of the model's specification")
        if not is_inside(name):
            raise ModelLoadError(f"{path}: not a file of the model's directory")
        try:
            with open_regular(path) as file:
                reader = Reader(path, file, self.files[name])
                yield reader
                reader.finish()
        except OSError as error:
            raise other_model(path, error.strerror or str(error)) from None


def model_files(spec: ModelSpec) -> ModelFiles:
    return ModelFiles(Path(spec.path), {file.name: file for file in spec.files})


def other_model(path: Path, why: str) -> ModelLoadError:
    return ModelLoadError(
        f"{path}: not the model of the job: {why}; put the files of its submission back there"
    )


class Reader:
    """A file that is read from its begin to its end. `left` counts the bytes that are still to come."""

    def __init__(self, path: Path, file: FileIO, expected: ModelFile) -> None:
        self.path = path
        self.left = expected.size_bytes
        self._file = file
        self._expected = expected
        self._hash = xxhash.xxh3_128()

    def read(self, num_bytes: int) -> bytes:
        content = bytearray(num_bytes)
        self.fill(memoryview(content))
        return bytes(content)

    def fill(self, buffer: memoryview) -> None:
        """Read as much as the buffer holds. Raises ModelLoadError when there is not so much."""
        self.left -= len(buffer)
        if self.left < 0:
            raise ModelLoadError(f"{self.path}: cut off, or damaged; fetch it again")
        while len(buffer):
            count = self._file.readinto(buffer[:_CHUNK_BYTES])
            if not count:
                raise other_model(self.path, "cut off")
            self._hash.update(buffer[:count])
            buffer = buffer[count:]

    def skip(self, num_bytes: int) -> None:
        while num_bytes > 0:
            num_bytes -= len(self.read(min(num_bytes, _CHUNK_BYTES)))

    def finish(self) -> None:
        """Raises ModelLoadError when the file goes on, or its content is another."""
        self.skip(self.left)
        if self._file.read(1):
            raise other_model(self.path, "longer than it was")
        if self._hash.hexdigest() != self._expected.digest:
            raise other_model(self.path, "its content has changed")
