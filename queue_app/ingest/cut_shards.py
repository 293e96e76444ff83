"""Shards: contiguous runs of the records that are computed, each one small self-contained Arrow file.

Cutting into equal costs needs the total, which is known only at the end of the input: the shards are cut
from the spool.
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from queue_app.choices import DeviceClass
from queue_app.host.durable_files import file_digest, rename_durably, sync_file
from queue_app.ingest.census import Rows
from queue_app.ingest.record_spool import Spool
from queue_app.job.directory import JobDir
from queue_app.job.shard_files import RECORD_SCHEMA, SHARD_SCHEMA
from queue_app.job.shard_table import Shard

SHARD_FLOPS = {"cpu": 1e14, "cuda": 1e16}
"""A minute or a few of a device; its gap between two shards is a fraction of a second."""
SHARD_COST = {"cpu": (250_000, 4_000_000), "cuda": (1_000_000, 32_000_000)}
"""Least and most characters, whatever the model: a worker holds a shard's sequences and vectors in memory."""
SHARD_BYTES = 64 << 20
"""A shard's vectors where every token keeps its own: publishing it maps them all into memory."""
SHARDS_LEAST = 32
RECORDS_PER_SHARD = (16, 16_384)
"""Least, where the number of shards is to be chosen, and most: what a worker holds of each record adds up."""


def write_shards(
    spool: Spool,
    rows: Rows,
    job_dir: JobDir,
    job_id: str,
    *,
    num_shards: int | None,
    cost_most: int,
    first_index: int = 0,
    reused: bool = False,
) -> tuple[Shard, ...]:
    """Write shards/<index>.arrow of the runs that `cut_rows` makes, in the input's order."""
    runs = cut_rows(rows, num_shards=num_shards, cost_most=cost_most, reused=reused)
    return tuple(
        run.as_shard(job_id, index, _write(run, spool, job_dir.shard(index)), reused=reused)
        for index, run in enumerate(runs, start=first_index)
    )


def cut_rows(rows: Rows, *, num_shards: int | None, cost_most: int, reused: bool = False) -> Iterator[Rows]:
    """The rows of each shard, about equal in estimated cost; none of no rows.

    Without `num_shards` there are at least 32, where there are records enough, and so many that on average
    none costs more than `cost_most`, in characters, or has more than 16,384 records. `reused` shards are made
    as large as that, since no worker waits for one.
    """
    if len(rows):
        shards_least = 1 if reused else SHARDS_LEAST
        num_shards = num_shards or default_num_shards(rows.costs, cost_most, shards_least)
        for first, last in pairwise(cut(rows.costs, num_shards)):
            yield rows[first:last]


def shard_cost_most(device_class: DeviceClass, num_parameters: int, token_bytes: int = 0) -> int:
    """The most characters of a shard, by 2 FLOPs for each parameter and token, and by what a token leaves.

    `token_bytes` is the size of the vectors that every token keeps; 0 where only rows have vectors.
    """
    least, most = SHARD_COST[device_class]
    by_time = max(least, min(most, int(SHARD_FLOPS[device_class] / (2 * max(num_parameters, 1)))))
    return min(by_time, max(1, SHARD_BYTES // token_bytes)) if token_bytes else by_time


def default_num_shards(costs: npt.NDArray[np.int64], cost_most: int, shards_least: int = SHARDS_LEAST) -> int:
    least, most = RECORDS_PER_SHARD
    by_cost = -(-int(costs.sum()) // cost_most)
    by_records = -(-len(costs) // most)
    return max(1, by_cost, by_records, min(shards_least, len(costs) // least))


def cut(costs: npt.NDArray[np.int64], num_shards: int) -> list[int]:
    """Bounds of the runs: each ends where the running cost is nearest to its share, none is empty."""
    num_shards = min(num_shards, len(costs))
    running = np.cumsum(costs)
    shares = running[-1] * np.arange(1, num_shards) / num_shards
    bounds = [0]
    for number, end in enumerate(np.searchsorted(running, shares) + 1, start=1):
        left_for_others = len(costs) - (num_shards - number)
        bounds.append(min(max(int(end), bounds[-1] + 1), left_for_others))
    return [*bounds, len(costs)]


def _write(rows: Rows, spool: Spool, path: Path) -> str:
    """Answers the xxh3-128 (hex) of the file."""
    table = spool.select(rows.ordinals)
    # One chunk, rebuilt from the values: a slice would carry the offsets of the spool into the bytes.
    texts = [pa.array(table[name].to_pylist(), pa.string()) for name in RECORD_SCHEMA.names]
    columns = [pa.array(rows.ordinals.astype(np.uint64)), *texts, pa.array(rows.copies)]
    temporary = path.with_name(f".{path.name}.tmp")
    with pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_file(file, SHARD_SCHEMA) as writer:
        writer.write_table(pa.table(columns, schema=SHARD_SCHEMA))
    sync_file(temporary)
    digest = file_digest(temporary)
    rename_durably(temporary, path)
    return digest
