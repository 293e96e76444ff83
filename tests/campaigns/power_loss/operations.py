"""What a writer did to its files, in the order in which it was done."""

import pickle
from dataclasses import dataclass
from pathlib import Path

DIRECTORY = -1
"""Stands in the place of a file's number where a name is that of a directory."""


@dataclass(frozen=True, slots=True)
class Write:
    """`durable`: through a descriptor opened with O_DSYNC or O_SYNC."""

    file: int
    offset: int
    data: bytes
    durable: bool = False


@dataclass(frozen=True, slots=True)
class Resize:
    file: int
    size: int


@dataclass(frozen=True, slots=True)
class Naming:
    """Names change together or not at all: path -> file, DIRECTORY, or None for a name that is gone."""

    names: tuple[tuple[str, int | None], ...]


@dataclass(frozen=True, slots=True)
class Sync:
    """fsync or fdatasync of a file: it covers the operations before number `began`."""

    file: int
    began: int


@dataclass(frozen=True, slots=True)
class SyncDirectory:
    path: str
    began: int


@dataclass(frozen=True, slots=True)
class Mark:
    """The writer told the world something, which had to be true from then on."""

    text: str


Operation = Write | Resize | Naming | Sync | SyncDirectory | Mark


@dataclass(frozen=True, slots=True)
class Recording:
    """Paths are relative to the recorded directory. `names` and `contents` stood there before, durably."""

    names: dict[str, int]
    contents: dict[int, bytes]
    operations: tuple[Operation, ...]

    def save(self, path: Path) -> None:
        path.write_bytes(pickle.dumps(self))

    @staticmethod
    def load(path: Path) -> "Recording":
        recording = pickle.loads(path.read_bytes())
        assert isinstance(recording, Recording)
        return recording

    def marks(self, moment: int | None = None) -> list[str]:
        """What the writer had told before operation number `moment`."""
        return [operation.text for operation in self.operations[:moment] if isinstance(operation, Mark)]
