"""The models that a test session has made, and what their references gave."""

from dataclasses import dataclass, field
from pathlib import Path

from tests.zoo.reference import Vectors
from tests.zoo.table import Row


@dataclass(slots=True)
class Zoo:
    """Each directory is made once, and each reference computed once; nobody changes either."""

    home: Path
    vectors: dict[str, Vectors] = field(default_factory=dict)

    def directory(self, row: Row) -> Path:
        """The model of a row."""
        path = self.home / folder(row)
        if not path.exists():
            path.mkdir()
            row.make(path)
        return path

    def reference(self, row: Row) -> Vectors:
        if row.name not in self.vectors:
            assert row.reference is not None, row.name
            self.vectors[row.name] = row.reference(self.directory(row), row.records)
        return self.vectors[row.name]


def folder(row: Row) -> str:
    """Its name, as a path has it without quotes."""
    words = "".join(letter if letter.isalnum() else " " for letter in row.name).lower().split()
    return "_".join(words)
