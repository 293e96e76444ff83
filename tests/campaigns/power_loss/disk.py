"""Build what a crash may leave on the disk. The model is described in the package's docstring."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path, PurePosixPath

from tests.campaigns.power_loss.operations import (
    DIRECTORY,
    Naming,
    Operation,
    Recording,
    Resize,
    Sync,
    SyncDirectory,
    Write,
)

SECTOR_BYTES = 512
LOCK_FILE = "lock.mdb"


class Names(Enum):
    """When a change of names is durable."""

    STRICT = "after an fsync of its directory; before that in any combination"
    JOURNALED = "after the next fsync of anything; before that in order"


@dataclass(slots=True)
class _Contents:
    """One file: `cached` is what its readers saw, `stored` what the disk holds."""

    cached: bytearray = field(default_factory=bytearray)
    stored: bytearray = field(default_factory=bytearray)

    def change(self, operation: Write | Resize) -> None:
        """As the page cache sees it at once."""
        if isinstance(operation, Write):
            end = operation.offset + len(operation.data)
            _resize(self.cached, max(len(self.cached), end))
            self.cached[operation.offset : end] = operation.data
        else:
            _resize(self.cached, operation.size)

    def flush(self) -> None:
        self.stored = bytearray(self.cached)

    def flush_range(self, start: int, end: int) -> None:
        """Whole sectors, as far as the disk knows the file to reach."""
        end = min(end, len(self.cached), len(self.stored))
        if start < end:
            self.stored[start:end] = self.cached[start:end]


def _resize(content: bytearray, size: int, filler: bytes = b"") -> None:
    """Grown by `filler`, or zeros."""
    missing = size - len(content)
    if missing < 0:
        del content[size:]
    elif missing:
        content += filler[:missing].ljust(missing, b"\0")


@dataclass(frozen=True, slots=True)
class Image:
    """The files and directories after a crash; `moment` operations had been completed before it."""

    moment: int
    directories: tuple[str, ...]
    files: dict[str, bytes]

    def write(self, target: Path) -> None:
        for name in self.directories:
            (target / name).mkdir(parents=True)
        for name, content in self.files.items():
            (target / name).write_bytes(content)


def crash(recording: Recording, moment: int, rng: random.Random, names: Names = Names.STRICT) -> Image:
    """One of the disks that a crash can leave while operation number `moment` is under way."""
    disk = _Disk(recording, moment, rng, names)
    disk.replay()
    return disk.image()


def without_crash(recording: Recording) -> dict[str, bytes]:
    """Every file as the writer left it: what the page cache holds in the end."""
    disk = _Disk(recording, len(recording.operations), random.Random(0), Names.STRICT)
    disk.replay()
    files = {name: file for name, file in disk.cached.items() if file != DIRECTORY}
    return {name: bytes(disk.files[file].cached) for name, file in files.items()}


class _Disk:
    def __init__(self, recording: Recording, moment: int, rng: random.Random, names: Names) -> None:
        self.moment = moment
        self.rng = rng
        self.cached = dict(recording.names)
        self.stored = dict(recording.names)
        self.files = {
            number: _Contents(bytearray(content), bytearray(content))
            for number, content in recording.contents.items()
        }
        # The operation under way may have reached the disk, but promises nothing.
        self.operations = recording.operations[: moment + 1]
        completed = recording.operations[:moment]
        self.file_barriers: dict[int, int] = {}
        for operation in completed:
            if isinstance(operation, Sync):
                began = max(operation.began, self.file_barriers.get(operation.file, 0))
                self.file_barriers[operation.file] = began
        self.name_barriers = list(_name_barriers(completed, names))
        self.names_arrive = self._fate_of_names(names)

    def replay(self) -> None:
        for number, operation in enumerate(self.operations):
            self._pass_barriers(number)
            if isinstance(operation, Naming):
                self._rename(number, operation)
            elif isinstance(operation, Write | Resize):
                self._change(number, operation)
        self._pass_barriers(len(self.operations))

    def _pass_barriers(self, number: int) -> None:
        """What was done before operation `number` is durable from here on."""
        for file in [file for file, began in self.file_barriers.items() if began == number]:
            self.files[file].flush()
        for directory in [directory for directory, began in self.name_barriers if began == number]:
            names = [name for name in {**self.cached, **self.stored} if directory in (None, _parent(name))]
            self._store_names(names)

    # ---- names

    def _fate_of_names(self, names: Names) -> list[bool]:
        """Of each operation: whether it reaches the disk if it changes names and no barrier makes it."""
        if names is Names.STRICT:
            share = self.rng.choice((0.0, 0.5, 1.0))
            return [self.rng.random() < share for _ in self.operations]
        last = max((began for _, began in self.name_barriers), default=0)
        cut = self.rng.randint(last, len(self.operations))
        return [number < cut for number in range(len(self.operations))]

    def _rename(self, number: int, operation: Naming) -> None:
        for name, file in operation.names:
            if file is None:
                self.cached.pop(name, None)
            else:
                self.cached[name] = file
                self.files.setdefault(file, _Contents())
        if self.names_arrive[number]:
            self._store_names([name for name, _ in operation.names])

    def _store_names(self, names: list[str]) -> None:
        for name in names:
            if name in self.cached:
                self.stored[name] = self.cached[name]
            else:
                self.stored.pop(name, None)

    # ---- data

    def _change(self, number: int, operation: Write | Resize) -> None:
        contents = self.files[operation.file]
        contents.change(operation)
        if number < self.file_barriers.get(operation.file, 0):
            return  # a barrier that comes makes it durable, whatever happens before
        if isinstance(operation, Resize):
            if self.rng.random() < 0.5:
                _resize(contents.stored, operation.size)
            return
        start = operation.offset // SECTOR_BYTES * SECTOR_BYTES
        end = -(-(operation.offset + len(operation.data)) // SECTOR_BYTES) * SECTOR_BYTES
        if operation.durable and number < self.moment:
            _resize(contents.stored, max(len(contents.stored), operation.offset + len(operation.data)))
            contents.flush_range(start, end)
            return
        if self.rng.random() < 0.7:
            stale = self.rng.randbytes(min(4 * SECTOR_BYTES, end)) if self.rng.random() < 0.3 else b""
            _resize(contents.stored, max(len(contents.stored), len(contents.cached)), stale)
        for first, last in self._sectors_that_arrive(start, end):
            contents.flush_range(first, last)

    def _sectors_that_arrive(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Byte ranges: nothing, everything, a beginning, an end, or sectors at random."""
        fate = self.rng.choice(("nothing", "everything", "beginning", "end", "random"))
        cut = self.rng.randrange(start, end, SECTOR_BYTES) if end > start else end
        if fate == "everything":
            yield start, end
        elif fate == "beginning":
            yield start, cut
        elif fate == "end":
            yield cut, end
        elif fate == "random":
            share = self.rng.random()
            for sector in range(start, end, SECTOR_BYTES):
                if self.rng.random() < share:
                    yield sector, sector + SECTOR_BYTES

    # ---- what is left

    def image(self) -> Image:
        there = [name for name in sorted(self.stored) if self._reachable(name)]
        return Image(
            self.moment,
            tuple(name for name in there if self.stored[name] == DIRECTORY),
            {name: self._content(name) for name in there if self.stored[name] != DIRECTORY},
        )

    def _reachable(self, name: str) -> bool:
        return all(self.stored.get(str(above)) == DIRECTORY for above in PurePosixPath(name).parents[:-1])

    def _content(self, name: str) -> bytes:
        stored = bytes(self.files[self.stored[name]].stored)
        # Written through a map, at any time: after a crash it may hold anything.
        return self.rng.randbytes(len(stored)) if name.endswith(LOCK_FILE) else stored


def _name_barriers(operations: tuple[Operation, ...], names: Names) -> Iterator[tuple[str | None, int]]:
    """Directory (None: all) and the operation before which its names are durable."""
    for operation in operations:
        if names is Names.JOURNALED and isinstance(operation, Sync | SyncDirectory):
            yield None, operation.began
        elif isinstance(operation, SyncDirectory):
            yield operation.path, operation.began


def _parent(name: str) -> str:
    return str(PurePosixPath(name).parent)
