"""HDF5 outputs: all vectors in one dataset, or, in the layouts of hdf5_records, one for each record.

Provenance stands in the file's attributes. Written as it is streamed: nothing but one batch is in memory.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa

from queue_app.job.result_files import EMBEDDING, as_matrix, num_vectors
from queue_app.outputs.content import Content
from queue_app.outputs.hdf5_file import OutputFile, new_file
from queue_app.outputs.hdf5_records import write_records

CHUNK_BYTES = 1 << 20
RAGGED_CHUNK_BYTES = 1 << 17
"""How many vectors there will be is not known then, and the last chunk takes all its room."""


def write_h5(path: Path, content: Content) -> None:
    """Write the file, and close it. Raises OSError."""
    with new_file(path) as (file, output):
        file.attrs.update(content.provenance)
        if content.h5_layout == "flat":
            _write_flat(file, output, content)
        else:
            write_records(file, output, content)


def _write_flat(file: h5py.File, output: OutputFile, content: Content) -> None:
    """`ids` (UTF-8) and `embeddings` [N, dim], or `embeddings_mean`, `embeddings_cls`, … with several.

    Ragged, `embeddings` is [vectors, dim], and record i has those from `offsets[i]` to `offsets[i + 1]`.
    """
    ids = file.create_dataset("ids", (content.num_rows,), h5py.string_dtype(), track_times=False)
    datasets = {
        name: _vectors(file, name.replace(EMBEDDING, "embeddings", 1), content) for name in content.columns
    }
    offsets = np.zeros(content.num_rows + 1, np.uint64)
    for start, batch in _placed(content):
        end = start + batch.num_rows
        ids[start:end] = batch.column("id").to_pylist()
        counts = _counts(batch, content)
        offsets[start + 1 : end + 1] = offsets[start] + np.cumsum(counts, dtype=np.uint64)
        for name, dataset in datasets.items():
            dataset.resize(int(offsets[end]), axis=0)
            dataset[int(offsets[start]) :] = as_matrix(batch.column(name))
        output.raise_failure()
    if content.is_ragged:
        file.create_dataset("offsets", data=offsets, track_times=False)


def _vectors(file: h5py.File, name: str, content: Content) -> Any:
    """An empty dataset [0, dim] that grows."""
    row_bytes = content.dim * np.dtype(content.dtype).itemsize
    rows = RAGGED_CHUNK_BYTES // row_bytes if content.is_ragged else CHUNK_BYTES // row_bytes
    most = rows if content.is_ragged else min(rows, content.num_rows)
    chunks = (max(1, most), content.dim)
    return file.create_dataset(
        name, (0, content.dim), content.dtype, maxshape=(None, content.dim), chunks=chunks, track_times=False
    )


def _counts(batch: pa.RecordBatch, content: Content) -> np.ndarray[Any, Any]:
    if content.is_ragged:
        return num_vectors(batch.column(content.columns[0]))
    return np.ones(batch.num_rows, np.int64)


def _placed(content: Content) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Every batch with the row where it begins."""
    start = 0
    for batch in content.batches():
        yield start, batch
        start += batch.num_rows
