"""Published shard results: one Parquet file per shard, the same bytes in every run.

Columns: id (string), ordinal (int64), embedding (fixed-size list of float32 or float16), in input order. With
several pools or layers there are several embedding columns. Ragged, an embedding is a list of such lists, or,
where its vectors are contacts, a list of numbers.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from queue_app.errors import Damage
from queue_app.host.durable_files import (
    AS_UMASK_SAYS,
    DigestedFile,
    removed_on_failure,
    rename_durably,
    room_for,
    sync_file,
)
from queue_app.model.spec import CONTACTS

ROWS_PER_GROUP = 16_384
READ_ROWS = 4_096
PORTION_BYTES = 4 << 20
"""About what the rows take that are read, or put in one row group, at once. Where rows hold rows, reading
them takes many times as much."""
FILE_BUFFER_BYTES = 1 << 20
EMBEDDING = "embedding"
OWN_COLUMNS = ["id", "ordinal"]

Vectors = npt.NDArray[np.float32] | npt.NDArray[np.float16]


def write_result(path: Path, schema: pa.Schema, rows: Iterable[pa.RecordBatch]) -> str:
    """Write a shard's result, durably and at once; answers the xxh3-128 (hex) of the file.

    Args:
        path: the final name; readers see all of the file or none of it.
        schema: that of the rows.
        rows: as `result_rows` makes them, ascending by ordinal. A batch is written before the next one is
            asked for, so that no more than one need be in memory.

    Raises:
        DiskFull: there is no room; nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with room_for(path), removed_on_failure(temporary):
        tables = (pa.Table.from_batches([batch]) for batch in rows)
        digest = write_parquet(temporary, schema, tables, mode=None)
        rename_durably(temporary, path)
    return digest


def result_rows(
    ids: Sequence[str], ordinals: npt.NDArray[np.uint64], embeddings: pa.RecordBatch
) -> pa.RecordBatch:
    """The rows of a result: n ids, ordinals [n], ascending, and only the embedding columns."""
    own = [pa.array(ids, pa.string()), pa.array(ordinals.astype(np.int64))]
    return pa.record_batch([*own, *embeddings.columns], names=[*OWN_COLUMNS, *embeddings.schema.names])


def embeddings_of(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Only the embedding columns of the rows of a result."""
    return rows.drop_columns(OWN_COLUMNS)


def embedding_columns(
    embeddings: Vectors, offsets: npt.NDArray[np.uint64] | None = None, names: Sequence[str] = (EMBEDDING,)
) -> pa.RecordBatch:
    """The embedding columns of n rows.

    Args:
        embeddings: [n, dim], or [vectors, dim] of ragged rows.
        offsets: where each ragged row begins and ends, [n + 1].
        names: the columns that the embeddings are cut into, equally wide.
    """
    width = embeddings.shape[1] // len(names)
    firsts = range(0, embeddings.shape[1], width)
    parts = [as_fixed_lists(embeddings[:, first : first + width]) for first in firsts]
    if offsets is not None:
        bounds = pa.array(offsets.astype(np.int32))
        parts = [part.flatten() for part in parts] if names == (CONTACTS,) else parts
        parts = [pa.ListArray.from_arrays(bounds, part) for part in parts]
    return pa.record_batch(parts, names=[*names])


def as_fixed_lists(embeddings: Vectors) -> pa.FixedSizeListArray:
    """[n, dim] as an Arrow array of n lists, without a copy of the numbers."""
    flat = pa.array(np.ascontiguousarray(embeddings).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, embeddings.shape[1])


def as_matrix(column: Any) -> Vectors:
    """The numbers of a column: [n, dim], or all rows of a ragged one end to end, [vectors, dim]; of contacts
    [pairs, 1]."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_list(array.type):
        array = array.flatten()
    if not pa.types.is_nested(array.type):
        return array.to_numpy(zero_copy_only=False)[:, None]  # type: ignore[no-any-return]
    vectors: Vectors = array.flatten().to_numpy(zero_copy_only=False)
    return vectors.reshape(len(array), array.type.list_size)


def num_vectors(column: pa.Array) -> npt.NDArray[np.int64]:
    """How many vectors each row of a ragged column has, [n]."""
    lengths: npt.NDArray[np.int64] = np.diff(column.offsets.to_numpy()).astype(np.int64)
    return lengths


def write_parquet(
    path: Path,
    schema: pa.Schema,
    tables: Iterable[pa.Table],
    *,
    kept: Sequence[str] = (),
    mode: int | None = AS_UMASK_SAYS,
) -> str:
    """Write and fsync; answers the xxh3-128 (hex) of the file.

    Vectors are noise to a compressor and to a dictionary: both would only cost time. `kept` are columns that
    are worth it.
    """
    how: dict[str, Any] = {"compression": "none", "use_dictionary": False, "write_statistics": False}
    if kept:
        how |= {"compression": dict.fromkeys(kept, "zstd"), "use_dictionary": [*kept]}
    with DigestedFile(path, mode=mode) as file, pq.ParquetWriter(file, schema, **how) as writer:
        for table in tables:
            group = _rows_within(table.nbytes, table.num_rows, ROWS_PER_GROUP)
            writer.write_table(table, row_group_size=group)
    sync_file(path)
    return file.hexdigest()


def iter_result(path: Path) -> Iterator[pa.RecordBatch]:
    """The result in input order, a few thousand rows at a time."""
    try:
        # By default whole row groups are read ahead, and held until all of their rows have passed.
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=FILE_BUFFER_BYTES) as file:
            yield from file.iter_batches(batch_size=_read_rows(file.metadata), use_threads=False)
    except (pa.ArrowInvalid, OSError) as error:
        raise Damage(f"{path}: not a readable result: {error}") from None


def _read_rows(metadata: pq.FileMetaData) -> int:
    num_bytes = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    return _rows_within(num_bytes, metadata.num_rows, READ_ROWS)


def _rows_within(num_bytes: int, num_rows: int, most: int) -> int:
    """So many rows of this size on average that a few of them are no burden."""
    return max(1, min(most, PORTION_BYTES * num_rows // max(num_bytes, 1)))
