"""HDF5 outputs: all vectors in one dataset, or a dataset for each record, named as other programs expect.

| layout | read by | name of a dataset |
|---|---|---|
| per-sequence | bio_embeddings | the record's ordinal |
| per-id | protspace | its id |
| per-hash | biotrainer | the SHA-256 of its sequence |

Provenance stands in the file's attributes. Nothing but one batch is in memory.
"""

import contextlib
import hashlib
import io
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa

from queue_app.choices import H5Layout
from queue_app.errors import Damage
from queue_app.host.durable_files import AS_UMASK_SAYS, file_digest, sync_file
from queue_app.host.own_files import open_own
from queue_app.job.result_files import Vectors, as_matrix, num_vectors
from queue_app.outputs.contacts import as_map
from queue_app.outputs.content import Content
from queue_app.outputs.formats.named_arrays import array_name, ranges_by_name
from queue_app.outputs.formats.replacing import Digests, replacing

CHUNK_BYTES = 1 << 20
RAGGED_CHUNK_BYTES = 1 << 17
"""How many vectors there will be is not known then, and the last chunk takes all its room."""

Naming = Callable[[int, str], str | None]
"""From ordinal and id to the name of a dataset; None where another record has it already."""


def write_h5_file(output: Path, content: Content) -> Digests:
    """In the layout that was asked for."""
    with replacing(output) as temporary:
        _write_h5(temporary, content)
        sync_file(temporary)
    return {output: file_digest(output)}  # read back: HDF5 goes to and fro in its file


def _write_h5(path: Path, content: Content) -> None:
    """Write the file, and close it. Raises OSError."""
    with new_file(path) as (file, output):
        file.attrs.update(content.provenance)
        if content.h5_layout == "flat":
            _write_flat(file, output, content)
        else:
            _write_records(file, output, content)


# ---- one dataset


def _write_flat(file: h5py.File, output: "OutputFile", content: Content) -> None:
    """`ids` (UTF-8) and `embeddings` [N, dim], or `embeddings_mean`, `embeddings_cls`, … with several.

    Of int8 and uint8 there are `ranges` [2, dim]. Ragged, `embeddings` is [vectors, dim], and record i has
    those from `offsets[i]` to `offsets[i + 1]`. The `contacts` are [pairs]: the map [L, L] of each record,
    row by row.
    """
    ids = file.create_dataset("ids", (content.num_rows,), h5py.string_dtype(), track_times=False)
    datasets = {name: _growing(file, array_name(name), content) for name in content.columns}
    offsets, row = np.zeros(content.num_rows + 1, np.uint64), 0
    for batch in content.batches():
        end = row + batch.num_rows
        ids[row:end] = batch.column("id").to_pylist()
        counts = num_vectors(batch.column(content.columns[0])) if content.is_ragged else np.ones(end - row)
        offsets[row + 1 : end + 1] = offsets[row] + np.cumsum(counts, dtype=np.uint64)
        for name, dataset in datasets.items():
            dataset.resize(int(offsets[end]), axis=0)
            vectors = as_matrix(batch.column(name))
            dataset[int(offsets[row]) :] = vectors[:, 0] if content.is_contacts else vectors
        output.raise_failure()
        row = end
    small = {"offsets": offsets} if content.is_ragged else ranges_by_name(content)
    for name, array in small.items():
        file.create_dataset(name, data=array, track_times=False)


def _growing(file: h5py.File, name: str, content: Content) -> Any:
    """An empty dataset [0, dim] that grows; of contacts [0]."""
    row_bytes = content.dim * np.dtype(content.dtype).itemsize
    rows = RAGGED_CHUNK_BYTES // row_bytes if content.is_ragged else CHUNK_BYTES // row_bytes
    most = rows if content.is_ragged else min(rows, content.num_rows)
    vector = () if content.is_contacts else (content.dim,)
    return file.create_dataset(
        name,
        (0, *vector),
        content.dtype,
        maxshape=(None, *vector),
        chunks=(max(1, most), *vector),
        track_times=False,
    )


# ---- a dataset for each record


def _write_records(file: h5py.File, output: "OutputFile", content: Content) -> None:
    """In the order of the input: [dim], or [tokens, dim] where they are ragged, and contacts [L, L].

    Whatever its name, a dataset has the id as the input has it in `original_id`.
    """
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
    """[dim] of each row, or [tokens, dim] of a ragged one, or [L, L] of contacts."""
    vectors: Any = as_matrix(column)
    if not content.is_ragged:
        return list(vectors)
    rows = np.split(vectors, np.cumsum(num_vectors(column))[:-1])
    return [as_map(row) for row in rows] if content.is_contacts else rows


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


# ---- a full disk


class OutputFile(io.FileIO):
    """A new file whose writes never fail. `raise_failure` says when one would have.

    HDF5 that could not write something tries again when it closes, and at last kills the process (SIGSEGV at
    exit, with HDF5 2.0). So it is never told: the first failure is kept, all that follows is dropped, and the
    failure is raised once HDF5 is content.
    """

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        super().__init__(open_own(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, AS_UMASK_SAYS), "w+")
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
    """Both are closed at the end, where what could not be written is raised. Datasets keep the order in which
    they were made."""
    with OutputFile(path) as output:
        try:
            with h5py.File(output, "w", track_order=True) as file:
                yield file, output
        finally:
            output.raise_failure()
