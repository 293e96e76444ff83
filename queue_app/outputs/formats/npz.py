"""NumPy's .npz: arrays by name in a zip, not compressed, written as a stream and the same bytes in every run.

| array | |
|---|---|
| `embeddings` | [N, dim]; with several pools or layers `embeddings_mean`, `embeddings_cls`, … |
| `contacts` | instead, [pairs]: the map [L, L] of each record, row by row |
| `ids` | [N], strings as wide as the longest |
| `offsets` | [N + 1], of ragged rows: record i has the vectors from `offsets[i]` to `offsets[i + 1]` |
| `ranges` | [2, dim], of int8 and uint8: the least and the most of each number; or `ranges_mean`, … |
| `provenance` | JSON |
"""

import json
import math
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from queue_app.errors import UsageError
from queue_app.host.durable_files import DigestedFile, sync_file
from queue_app.job.result_files import as_matrix
from queue_app.outputs.content import Content
from queue_app.outputs.formats.named_arrays import (
    array_name,
    array_shape,
    ranges_by_name,
    row_offsets,
    write_array_header,
)
from queue_app.outputs.formats.replacing import Digests, replacing

IDS_BYTES_MOST = 1 << 30
"""Beyond that, ids of a fixed width may not take more than the vectors do."""
_IDS = pa.schema([("id", pa.string())])


def write_npz(output: Path, content: Content) -> Digests:
    """Raises UsageError where one long id would make the ids larger than the vectors."""
    with replacing(output) as temporary:
        with (
            DigestedFile(temporary) as file,
            _SpooledIds(output.parent) as ids,
            zipfile.ZipFile(_Stream(file), "w") as archive,
        ):
            num_bytes = _write_vectors(archive, content, ids)
            _check_width(output, content.num_rows * 4 * ids.width, num_bytes)
            _write_ids(archive, content.num_rows, ids)
            _write_array(archive, "provenance", np.array(json.dumps(dict(content.provenance))))
        sync_file(temporary)
    return {output: file.hexdigest()}


def _write_vectors(archive: zipfile.ZipFile, content: Content, ids: "_SpooledIds") -> int:
    """All columns, one after another, as a zip wants them; answers how many bytes they take."""
    offsets = row_offsets(content) if content.is_ragged else None
    shape = array_shape(content, content.num_rows if offsets is None else int(offsets[-1]))
    for name in content.columns:
        with _member(archive, array_name(name), content.dtype, shape) as member:
            for batch in content.batches():
                member.write(as_matrix(batch.column(name)).data)
                if name == content.columns[0]:
                    ids.append(batch)
    small: dict[str, Any] = {} if offsets is None else {"offsets": offsets}
    for name, array in {**small, **ranges_by_name(content)}.items():
        _write_array(archive, name, array)
    return len(content.columns) * math.prod(shape) * np.dtype(content.dtype).itemsize


def _check_width(output: Path, num_bytes: int, vector_bytes: int) -> None:
    if num_bytes > max(IDS_BYTES_MOST, vector_bytes):
        raise UsageError(
            f"{output}: ids as wide as the longest would take {num_bytes / 1e9:.1f} GB, more than the "
            "vectors; have holdfast export write .h5, .parquet or .arrow instead"
        )


def _write_ids(archive: zipfile.ZipFile, num_rows: int, ids: "_SpooledIds") -> None:
    kind = f"<U{ids.width}"
    with _member(archive, "ids", kind, (num_rows,)) as member:
        for some in ids.read():
            member.write(np.array(some, kind).tobytes())


def _write_array(archive: zipfile.ZipFile, name: str, values: "np.ndarray[Any, Any]") -> None:
    with _member(archive, name, values.dtype, values.shape) as member:
        member.write(values.tobytes())


def _member(archive: zipfile.ZipFile, name: str, dtype: Any, shape: tuple[int, ...]) -> Any:
    """An array to be written, of which the header is: `ZipInfo` is of 1980, whenever that happens."""
    member = archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True)
    write_array_header(member, dtype, shape)
    return member


class _Stream:
    """A file that a zip is written to from its beginning to its end: what cannot seek is never patched."""

    def __init__(self, file: DigestedFile) -> None:
        self._file = file

    def write(self, data: Any, /) -> int:
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        """Whoever opened the file closes it."""


class _SpooledIds:
    """Ids wait in a file without a name: how wide the longest is, is known behind the last one."""

    def __init__(self, directory: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 closed on leaving
        self._writer = pa.ipc.new_stream(self._file, _IDS)
        self.width = 1

    def append(self, batch: pa.RecordBatch) -> None:
        self._writer.write(batch.select(["id"]).cast(_IDS))
        self.width = max(self.width, pc.max(pc.utf8_length(batch.column("id"))).as_py() or 0)

    def read(self) -> Iterator[list[str]]:
        """All of them, once, when nothing more is appended."""
        self._writer.close()
        self._file.seek(0)
        for batch in pa.ipc.open_stream(self._file):
            yield batch.column("id").to_pylist()

    def __enter__(self) -> "_SpooledIds":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
