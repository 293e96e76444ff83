"""Readings of model directories, kept in the user's cache: transformers takes a second to import, each time.

A reading is found again by all that it was made of: the names of all files, the content of all but weights,
of these the heads, and the code that read them. A path never counts, and the digests of the files are always
taken anew. Without a home, or in one that is not the user's own, nothing is kept.
"""

import contextlib
import json
import os
import struct
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import xxhash
from pydantic import ValidationError

from queue_app.host.own_files import make_own_directory, require_own_directory, write_own
from queue_app.model.files import digest_files, directory_digest, open_regular
from queue_app.model.spec import FoundModel, parse_spec

HOME = Path("~/.cache/holdfast/models")
KEPT = 32
"""Readings; the one that was not asked for the longest goes first."""
FILES_MOST = 2_000
CONTENT_BYTES_MOST = 64 << 20
"""What is larger, but for weights, is none of what a reader reads."""
_NOT_OF_THE_MODEL = (".git", ".cache")
_WEIGHTS = ".safetensors"
_READ_BY = ("transformers", "tokenizers", "sentencepiece", "protobuf", "torch")


def reading_key(directory: Path, rules: str) -> str | None:
    """What a reading of this directory by these rules is kept under; None where it cannot be told."""
    state = xxhash.xxh3_128(f"{rules}\n{_reader()}\n".encode())
    try:
        for path in _files(directory):
            name, size = path.relative_to(directory).as_posix(), path.stat().st_size
            state.update(f"{name}\n{size if path.suffix != _WEIGHTS else ''}\n".encode())
            state.update(_telling_part(path, size))
    except (OSError, ValueError, struct.error):
        return None
    return state.hexdigest()


def find_reading(key: str, directory: Path, name: str, revision: str) -> FoundModel | None:
    """The reading that was kept, of these very files; None where there is none."""
    path = HOME.expanduser() / f"{key}.json"
    try:
        require_own_directory(path.parent)
        kept = json.loads(path.read_bytes())
        spec = parse_spec(kept["spec"])
        files = digest_files(directory, [file.name for file in spec.files])
        os.utime(path)
    except (OSError, ValueError, KeyError, TypeError, ValidationError):
        return None
    stamped = replace(
        spec, name=name, path=str(directory), revision=revision, files=files, digest=directory_digest(files)
    )
    return FoundModel(stamped, kept["tokenizer"])


def keep_reading(key: str, answer: dict[str, Any]) -> None:
    """Keep what the reader answered, where there is a place for it."""
    home = HOME.expanduser()
    with contextlib.suppress(OSError):
        make_own_directory(home)
        written = home / f".{key}.{os.getpid()}"
        write_own(written, json.dumps(answer))
        written.rename(home / f"{key}.json")
        for old in sorted(home.glob("*.json"), key=lambda each: each.stat().st_mtime)[:-KEPT]:
            old.unlink()


def _files(directory: Path) -> Iterator[Path]:
    """All files, by name. Raises ValueError where these are too many for a model's."""
    found = []
    for num_folders, (folder, folders, names) in enumerate(os.walk(directory, followlinks=True)):
        folders[:] = [each for each in folders if each not in _NOT_OF_THE_MODEL]
        found += [Path(folder, name) for name in names]
        if len(found) + num_folders > FILES_MOST:  # links may lead round and round
            raise ValueError(f"{directory}: more than {FILES_MOST} files")
    yield from sorted(found)


def _telling_part(path: Path, size: int) -> bytes:
    """Of weights the head: names, types and shapes."""
    with open_regular(path) as file:
        if path.suffix != _WEIGHTS:
            return file.read(size) if size <= CONTENT_BYTES_MOST else b""
        length = file.read(8)
        return file.read(min(struct.unpack("<Q", length)[0], CONTENT_BYTES_MOST))


def _reader() -> str:
    """The code that reads, all that it can call included, and the versions of what it asks."""
    package = find_spec("gpu_tasks")
    assert package is not None
    assert package.origin is not None
    sources = [*Path(package.origin).parent.rglob("*.py"), *Path(__file__).parent.glob("*.py")]
    state = xxhash.xxh3_128()
    for source in sorted(sources):
        state.update(source.read_bytes())
    return "\n".join([state.hexdigest(), *(f"{name} {_version(name)}" for name in _READ_BY)])


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"
