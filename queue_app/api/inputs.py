"""What a call of the Python API hands over to be read: names of files, or strings in memory.

Nothing of pandas, polars or NumPy is imported: a table is told by its columns, a series by its index.
"""

import glob
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AnySet
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from queue_app.errors import InputError, UsageError, WrongType
from queue_app.ingest.readers.sources import STANDARD_INPUT
from queue_app.ingest.readers.values import shown

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
Sequences = Iterable[str] | Mapping[str, str]


@contextmanager
def input_files(inputs: Paths | None, sequences: Sequences | None) -> Iterator[list[Path]]:
    """The files to read. Sequences in memory become one for as long as the job is not yet made.

    A job is known by what its inputs contain, not by their names: the same sequences are the same job.

    Raises:
        UsageError: both were given, or neither; or what was given is no sequences, no names of files.
    """
    if (inputs is None) == (sequences is None):
        raise UsageError("name either inputs, which are files, or sequences, which are strings in memory")
    if sequences is None:
        yield _paths(() if inputs is None else inputs)
        return
    with tempfile.TemporaryDirectory(prefix="holdfast-") as home:
        path = Path(home) / "sequences.jsonl"
        _write_json_lines(path, _pairs(sequences))
        yield [path]


def _paths(inputs: Paths) -> list[Path]:
    if _is_table(inputs) or _is_series(inputs) or isinstance(inputs, Mapping):
        raise WrongType(
            f"inputs: a {type(inputs).__name__}, where names of files stand; strings in memory go to "
            f"sequences={'df[column]' if _is_table(inputs) else '…'}"
        )
    several = [inputs] if isinstance(inputs, str | os.PathLike) else list(inputs)
    for each in several:
        if not isinstance(each, str | os.PathLike):
            raise WrongType(f"inputs: a {type(each).__name__}, where the name of a file stands")
        if isinstance(each, str) and not _is_there(each):
            raise InputError(
                f"{shown(each)}: no such file; inputs are names of files, strings in memory go to sequences="
            )
    return [Path(each) for each in several]


def _is_there(name: str) -> bool:
    try:
        return name == str(STANDARD_INPUT) or os.path.lexists(name) or bool(glob.glob(name, recursive=True))  # noqa: PTH207
    except ValueError:  # a NUL in it
        return False


def _pairs(sequences: Sequences) -> Iterable[tuple[Any, Any]]:
    """Ids and sequences. Raises WrongType for what would yield other strings than it seems to."""
    if isinstance(sequences, str):
        raise WrongType("sequences: a single string; write [string]")
    if _is_table(sequences):
        raise WrongType(
            f"sequences: a {type(sequences).__name__}, of which nobody said which column holds them; write "
            "sequences=df[column], or of pandas with ids sequences=df.set_index(ids)[column]"
        )
    if isinstance(sequences, AnySet) and not isinstance(sequences, Mapping):
        raise WrongType("sequences: a set, which has no order that the rows could have; write sorted(…)")
    if isinstance(sequences, Mapping) or _is_series(sequences):
        return sequences.items()  # type: ignore[union-attr]
    return enumerate(sequences)


def _is_table(value: object) -> bool:
    """A DataFrame or LazyFrame, a table of Arrow, a data set of datasets: looping over it yields no texts."""
    return hasattr(type(value), "columns") or hasattr(type(value), "column_names")


def _is_series(value: object) -> bool:
    """A Series of pandas, whose index is its ids. That of polars has none."""
    return hasattr(type(value), "items") and hasattr(type(value), "index") and not isinstance(value, Mapping)


def _write_json_lines(path: Path, pairs: Iterable[tuple[Any, Any]]) -> None:
    """One record a line, as the reader of .jsonl files takes them."""
    with path.open("w", encoding="utf-8") as file:
        for record_id, sequence in pairs:
            if not isinstance(sequence, str):
                raise WrongType(
                    f"sequences: that of {record_id!r} is not a string, but of type {type(sequence).__name__}"
                )
            file.write(json.dumps({"id": str(record_id), "sequence": sequence}) + "\n")
