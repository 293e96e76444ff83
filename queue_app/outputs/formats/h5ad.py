"""AnnData's .h5ad: an observation for each record, named by its id.

One vector a record is `X`, so that scanpy finds it without being told; several are `obsm["embedding_mean"]`,
`obsm["embedding_cls"]`, … `obs["ordinal"]` is a record's place in the input, `uns` the provenance.

It is written by h5py alone, to the letter of
https://anndata.readthedocs.io/en/stable/fileformat-prose.html
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from queue_app.host.durable_files import file_digest, sync_file
from queue_app.job.result_files import as_matrix
from queue_app.outputs.content import Content
from queue_app.outputs.formats.hdf5 import CHUNK_BYTES, OutputFile, new_file
from queue_app.outputs.formats.replacing import Digests, replacing

MAPPINGS = ("layers", "obsm", "obsp", "varm", "varp")


def write_h5ad(output: Path, content: Content) -> Digests:
    """Nothing but one batch is in memory."""
    with replacing(output) as temporary:
        with new_file(temporary) as (file, written):
            _encode(file, "anndata", "0.1.0")
            vectors = _empty(file, content)
            _write_uns(file, content.provenance)
            _write_rows(file, written, content, vectors)
        sync_file(temporary)
    return {output: file_digest(output)}  # read back: HDF5 goes to and fro in its file


def _empty(file: h5py.File, content: Content) -> dict[str, Any]:
    """All groups, and the datasets [N, dim] of the columns."""
    names = [str(number) for number in range(content.dim)] if len(content.columns) == 1 else []
    _data_frame(file, "obs", content.num_rows, columns=["ordinal"])
    _data_frame(file, "var", len(names), columns=[])["_index"][:] = names
    mappings = {name: _encode(file.create_group(name, track_order=True), "dict") for name in MAPPINGS}
    if len(content.columns) == 1:
        return {content.columns[0]: _matrix(file, "X", content)}
    return {name: _matrix(mappings["obsm"], name, content) for name in content.columns}


def _data_frame(file: h5py.File, name: str, num_rows: int, *, columns: list[str]) -> Any:
    """Whole numbers in columns, beside the index of strings."""
    group = _encode(file.create_group(name, track_order=True), "dataframe", "0.2.0")
    group.attrs["_index"] = "_index"
    group.attrs["column-order"] = np.array(columns, h5py.string_dtype())
    _encode(_dataset(group, "_index", num_rows, h5py.string_dtype()), "string-array", "0.2.0")
    for column in columns:
        _encode(_dataset(group, column, num_rows, np.int64), "array", "0.2.0")
    return group


def _dataset(group: h5py.Group, name: str, num_rows: int, dtype: object) -> Any:
    return group.create_dataset(name, (num_rows,), dtype, track_times=False)


def _matrix(group: h5py.Group, name: str, content: Content) -> Any:
    rows = max(1, CHUNK_BYTES // (content.dim * np.dtype(content.dtype).itemsize))
    chunks = (min(rows, content.num_rows), content.dim) if content.num_rows else None
    shape = (content.num_rows, content.dim)
    dataset = group.create_dataset(name, shape, content.dtype, chunks=chunks, track_times=False)
    return _encode(dataset, "array", "0.2.0")


def _write_uns(file: h5py.File, provenance: Mapping[str, str]) -> None:
    uns = _encode(file.create_group("uns", track_order=True), "dict")
    for name, text in provenance.items():
        dataset = uns.create_dataset(name, data=text, dtype=h5py.string_dtype(), track_times=False)
        _encode(dataset, "string", "0.2.0")


def _write_rows(file: h5py.File, written: OutputFile, content: Content, vectors: Mapping[str, Any]) -> None:
    row, obs = 0, file["obs"]
    for batch in content.batches():
        end = row + batch.num_rows
        obs["_index"][row:end] = batch.column("id").to_pylist()
        obs["ordinal"][row:end] = batch.column("ordinal").to_numpy()
        for name, dataset in vectors.items():
            dataset[row:end] = as_matrix(batch.column(name))
        written.raise_failure()
        row = end


def _encode(element: Any, kind: str, version: str = "0.1.0") -> Any:
    """What anndata tells elements apart by."""
    element.attrs["encoding-type"], element.attrs["encoding-version"] = kind, version
    return element
