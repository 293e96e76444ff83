"""Published shard results: one Parquet file per shard, the same bytes in every run.

Columns: id (string), ordinal (int64), embedding (fixed-size list of float32 or float16), in input order.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from queue_app.durable import file_digest, removed_on_failure, rename_durably, room_for, sync_file
from queue_app.errors import Damage

ROWS_PER_GROUP = 16_384
READ_ROWS = 4_096

Vectors = npt.NDArray[np.float32] | npt.NDArray[np.float16]


def write_result(
    path: Path, *, ids: Sequence[str], ordinals: npt.NDArray[np.uint64], embeddings: Vectors
) -> str:
    """Write a shard's result, durably and at once; answers the xxh3-128 (hex) of the file.

    Args:
        path: the final name; readers see all of the file or none of it.
        ids: n ids.
        ordinals: [n], ascending.
        embeddings: [n, dim].

    Raises:
        DiskFull: there is no room; nothing is left behind.
    """
    columns = {"id": pa.array(ids, pa.string()), "ordinal": pa.array(ordinals.astype(np.int64))}
    table = pa.table({**columns, "embedding": as_fixed_lists(embeddings)})
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with room_for(path), removed_on_failure(temporary):
        write_parquet(temporary, table.schema, [table])
        digest = file_digest(temporary)
        rename_durably(temporary, path)
    return digest


def as_fixed_lists(embeddings: Vectors) -> pa.FixedSizeListArray:
    """[n, dim] as an Arrow array of n lists, without a copy of the numbers."""
    flat = pa.array(np.ascontiguousarray(embeddings).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, embeddings.shape[1])


def as_matrix(column: Any) -> Vectors:
    """The inverse of `as_fixed_lists`: [n, dim]."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    vectors: Vectors = array.flatten().to_numpy(zero_copy_only=False)
    return vectors.reshape(len(array), array.type.list_size)


def write_parquet(path: Path, schema: pa.Schema, tables: Iterator[pa.Table] | Sequence[pa.Table]) -> None:
    """Write and fsync. Vectors are noise to a compressor and to a dictionary: both would only cost time."""
    writer = pq.ParquetWriter(path, schema, compression="none", use_dictionary=False, write_statistics=False)
    with writer:
        for table in tables:
            writer.write_table(table, row_group_size=ROWS_PER_GROUP)
    sync_file(path)


def iter_result(path: Path) -> Iterator[pa.RecordBatch]:
    """The result in input order, a few thousand rows at a time."""
    try:
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(batch_size=READ_ROWS)
    except (pa.ArrowInvalid, OSError) as error:
        raise Damage(f"{path}: not a readable result: {error}") from None
