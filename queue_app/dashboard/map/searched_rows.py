"""The rows that a search looks through, in parts that are read by themselves: duplicates, then each shard.

Each has `ordinal` and `id`; of a shard whose file is still there also `sequence` and `copies`. The columns
of text that the job has kept stand behind them, under names that begin with `kept `.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from queue_app.dashboard.map.kept_texts import kept_strings
from queue_app.dashboard.map.published_vectors import Published
from queue_app.dashboard.map.sequence_texts import is_kept
from queue_app.errors import Damage
from queue_app.job.duplicates import read_duplicates
from queue_app.job.shard_table import Shard

DUPLICATES_AT_ONCE = 1 << 16
KEPT, TEXT = "kept ", "sequence"
TEXT_COLUMNS = ("ordinal", "id", TEXT, "copies")
ID_COLUMNS = ("ordinal", "id")


def num_parts(published: Published) -> int:
    return 1 + len(published.job.shards)


def has_texts(published: Published) -> bool:
    """Whether texts can be searched: `holdfast clean` removes them, and ids stay."""
    return is_kept(published.job, published.job_dir)


def rows_of_part(published: Published, part: int) -> Iterator[pa.RecordBatch]:
    """Raises Damage where a file cannot be read."""
    if part == 0:
        for batch in read_duplicates(published.job, published.job_dir, DUPLICATES_AT_ONCE):
            yield _described(published, batch.select(ID_COLUMNS))
        return
    shard = published.job.shards[part - 1]
    rows = _of_shard if published.job_dir.shard(shard.index).is_file() else _of_result
    for batch in rows(published, shard):
        yield _described(published, batch)


def _of_shard(published: Published, shard: Shard) -> Iterator[pa.RecordBatch]:
    path = published.job_dir.shard(shard.index)
    try:
        with pa.memory_map(str(path)) as mapped, pa.ipc.open_file(mapped) as file:
            for number in range(file.num_record_batches):
                yield file.get_batch(number).select(TEXT_COLUMNS)
    except (pa.ArrowInvalid, OSError) as error:
        raise Damage(f"{path}: cannot be read: {error}") from None


def _of_result(published: Published, shard: Shard) -> Iterator[pa.RecordBatch]:
    """Without the vectors, which are nearly all of it."""
    path = published.job_dir.results / published.done[shard.index].file
    try:
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(columns=[*ID_COLUMNS], use_threads=False)
    except (pa.ArrowInvalid, OSError) as error:
        raise Damage(f"{path}: not a readable result: {error}") from None


def texts_of(batch: pa.RecordBatch) -> list[str]:
    """The names of the columns of text, what was kept before the sequence."""
    names = [name for name in batch.schema.names if name.startswith(KEPT)]
    return [*names, TEXT] if TEXT in batch.schema.names else names


def _described(published: Published, batch: pa.RecordBatch) -> pa.RecordBatch:
    ordinals = batch.column("ordinal").to_numpy().astype(np.int64)
    for name, column in kept_strings(published.job, published.job_dir, ordinals).items():
        batch = batch.append_column(f"{KEPT}{name}", column)
    return batch
