"""HDF5 files with a dataset for each record, under the names that other programs look for.

| layout | read by | name of a dataset |
|---|---|---|
| per-sequence | bio_embeddings | the record's ordinal |
| per-id | protspace | its id |
| per-hash | biotrainer | the SHA-256 of its sequence |

Whatever its name, a dataset has the id as the input has it in `original_id`.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import h5py
import numpy as np
import pyarrow as pa

from queue_app.choices import H5Layout
from queue_app.errors import Damage
from queue_app.job.result_files import Vectors, as_matrix, num_vectors
from queue_app.outputs.content import Content
from queue_app.outputs.hdf5_file import OutputFile

Naming = Callable[[int, str], str | None]
"""From ordinal and id to the name of a dataset; None where another record has it already."""


def write_records(file: h5py.File, output: OutputFile, content: Content) -> None:
    """A dataset for each record, in the order of the input: [dim], or [tokens, dim] where they are ragged."""
    name_of = _NAMINGS[content.h5_layout](file, content)
    for ordinal, record_id, vectors in _rows(content):
        name = name_of(ordinal, record_id)
        if name is not None:
            dataset = file.create_dataset(name, data=vectors, track_times=False)
            dataset.attrs["original_id"] = record_id
            output.raise_failure()


def _rows(content: Content) -> Iterator[tuple[int, str, Vectors]]:
    (column,) = content.columns
    for batch in content.batches():
        ordinals, ids = batch.column("ordinal").to_pylist(), batch.column("id").to_pylist()
        yield from zip(ordinals, ids, _vectors(batch.column(column), content), strict=True)


def _vectors(column: pa.Array, content: Content) -> list[Vectors]:
    """[dim] of each row, or [tokens, dim] of a ragged one."""
    vectors: Any = as_matrix(column)
    return np.split(vectors, np.cumsum(num_vectors(column))[:-1]) if content.is_ragged else list(vectors)


def _by_ordinal(file: h5py.File, content: Content) -> Naming:
    """Never taken twice, and no id has to be fit for a name."""
    return lambda ordinal, _: str(ordinal)


def _by_id(file: h5py.File, content: Content) -> Naming:
    """The id with `_` for each `/`, which would make a group of what stands before it.

    A name that is empty, `.` or taken gets the record's ordinal behind it: `P12345#600`.
    """

    def name(ordinal: int, record_id: str) -> str:
        found = record_id.replace("/", "_")
        while not found or found in file:  # . is the file's root, and so always taken
            found += f"#{ordinal}"
        return found

    return name


def _by_hash(file: h5py.File, content: Content) -> Naming:
    """As biotrainer hashes it. Identical sequences share one dataset, of the first of them that has a row."""
    sequences = content.sequences()

    def name(ordinal: int, record_id: str) -> str | None:
        for place, sequence in sequences:
            if place == ordinal:
                if sequence is None or (found := sequence_hash(sequence)) in file:
                    return None
                return found
        raise Damage(f"record {ordinal} has a row, but no sequence; run embed again with --overwrite")

    return name


def sequence_hash(sequence: str) -> str:
    """As `calculate_sequence_hash` of biotrainer."""
    return hashlib.sha256(f"{sequence}_{len(sequence)}".encode()).hexdigest()


_NAMINGS: Mapping[H5Layout, Callable[[h5py.File, Content], Naming]] = {
    "per-sequence": _by_ordinal,
    "per-id": _by_id,
    "per-hash": _by_hash,
}
