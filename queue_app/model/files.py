"""The files of a model directory: their digests, held against those that a job was submitted with."""

import errno
import hashlib
import os
import stat
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from io import FileIO
from pathlib import Path, PurePosixPath

import xxhash

from queue_app.errors import ModelError
from queue_app.model.spec import ModelFile

AT_ONCE = 4


def digest_files(directory: Path, names: Iterable[str]) -> tuple[ModelFile, ...]:
    """Each file with its digest, by name; several are read at a time. Raises OSError."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return tuple(pool.map(lambda name: _digested(directory, name), sorted(set(names))))


def directory_digest(files: Iterable[ModelFile]) -> str:
    """xxh3-128 (hex) over names, sizes and digests."""
    state = xxhash.xxh3_128()
    for file in files:
        state.update(f"{file.name}\n{file.size_bytes}\n{file.digest}\n".encode())
    return state.hexdigest()


def is_inside(name: str) -> bool:
    """False for a name that would lead out of a model directory, or that no file has."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\0" not in name and bool(path.name)


def check_files(files: Iterable[ModelFile], directory: Path) -> None:
    """Read every file once, several at a time: hashing leaves the interpreter to the others.

    Raises:
        ModelError: one is missing, or is another one; names the first of them.
    """
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for found in pool.map(lambda file: _difference(file, directory / file.name), files):
            if found is not None:
                raise ModelError(found)


def open_regular(path: Path) -> FileIO:
    """Open an ordinary file. Raises OSError for all else: a pipe may never begin, and a device never end."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        why = os.strerror(errno.EISDIR) if stat.S_ISDIR(mode) else "not an ordinary file"
        raise OSError(errno.EINVAL, why, str(path))
    return FileIO(descriptor)


def _digested(directory: Path, name: str) -> ModelFile:
    with open_regular(directory / name) as file:
        digest = hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()
        return ModelFile(name, file.tell(), digest)


def _difference(file: ModelFile, path: Path) -> str | None:
    if not is_inside(file.name):
        return f"{path}: not a file of the model's directory"
    try:
        size = path.stat().st_size
        if size != file.size_bytes:
            return f"{path}: {size:,} bytes, not the {file.size_bytes:,} of the job's model"
        found = _digested(path.parent, path.name)
    except OSError as error:
        return f"{path}: {error.strerror or error}"
    return None if found.digest == file.digest else f"{path}: not the file of the job's model"
