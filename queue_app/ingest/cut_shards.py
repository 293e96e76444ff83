"""Shards: contiguous runs of the records that are computed, each one small self-contained Arrow file.

Cutting by cost needs the total, which is known only at the end of the input: the shards are cut from the
spool.

The last shards taper. A worker that takes a large one just before the others end keeps all of them waiting,
so what is left at the end must be small. Guided self-scheduling (Polychronopoulos and Kuck, IEEE Transactions
on Computers C-36(12), 1987) gives a worker its share of what is left, factoring (Hummel, Schonberg and Flynn,
Communications of the ACM 35(8), 1992) half of it; both know the number of workers. A job does not, and they
come and go: it is cut once, and so that any number of workers that is small beside the shards' does well.
"""

import math
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from queue_app.array_types import Int64s
from queue_app.choices import DeviceClass
from queue_app.host.durable_files import DurableFiles
from queue_app.ingest.census import Rows
from queue_app.ingest.record_spool import Spool
from queue_app.job.directory import JobDir
from queue_app.job.shard_files import RECORD_SCHEMA, SHARD_SCHEMA
from queue_app.job.shard_table import Shard

Sizes = npt.NDArray[np.float64]

SHARD_FLOPS = {"cpu": 1e14, "cuda": 2e16}
"""A minute or a few of a device."""
SHARD_COST = {"cpu": (250_000, 4_000_000), "cuda": (1_000_000, 32_000_000)}
"""Least and most characters, whatever the model: a worker holds a shard's sequences and vectors in memory."""
SHARD_BYTES = 64 << 20
"""A shard's vectors where every token keeps its own: publishing it maps them all into memory."""
SHARDS_LEAST = 32
SHARDS_WANTED = 128
"""So many let 32 workers end within some percent of each other; fewer where a shard would cost too little."""
WANTED_COST = 4
"""Of so many each costs at least this part of the most it may: what a shard takes by itself, some tenths of a
second, is small beside it."""
RECORDS_PER_SHARD = (16, 16_384)
"""Least, where there are records enough, and most: what a worker holds of each record adds up."""
RECORDS_OF_A_GPU = 65_536
"""The most of a shard for a CUDA device, which is through with as many of a small model in seconds."""
SMALLEST = 0.25
"""The last shard's cost, where the first ones' is 1."""
LARGEST = 1.25
"""The first shards' cost, where the mean of 32 or more is 1: no more than this."""

IPC_OPTIONS = pa.ipc.IpcWriteOptions()


def write_shards(
    spool: Spool,
    rows: Rows,
    job_dir: JobDir,
    job_id: str,
    *,
    num_shards: int | None,
    cost_most: int,
    records_most: int = RECORDS_PER_SHARD[1],
    first_index: int = 0,
    reused: bool = False,
) -> tuple[Shard, ...]:
    """Write shards/<index>.arrow of the runs that `cut_rows` makes, in the input's order.

    They are durable afterwards, and nothing may read them before: job.json is written later.
    """
    runs = cut_rows(
        rows, num_shards=num_shards, cost_most=cost_most, records_most=records_most, reused=reused
    )
    shards = []
    with DurableFiles(job_dir.shards) as files:
        for index, run in enumerate(runs, start=first_index):
            content = _arrow_file(run, spool)
            files.write(job_dir.shard(index).name, content)
            digest = xxhash.xxh3_128_hexdigest(content)
            shards.append(run.as_shard(job_id, index, digest, reused=reused))
            spool.let_go()
    return tuple(shards)


def cut_rows(
    rows: Rows,
    *,
    num_shards: int | None,
    cost_most: int,
    records_most: int = RECORDS_PER_SHARD[1],
    reused: bool = False,
) -> Iterator[Rows]:
    """The rows of each shard, in the input's order; none of no rows.

    Without `num_shards` there are at least 32, where there are records enough, and so many that about none
    costs more than `cost_most`, in characters, or has more than `records_most` records. `reused` shards are
    all made as large as that, since no worker waits for one.
    """
    if len(rows):
        if reused:
            sizes = np.ones(least_num_shards(rows.costs, cost_most, records_most))
        else:
            wanted = num_shards or default_num_shards(rows.costs, cost_most, records_most)
            sizes = tapering_sizes(wanted, len(rows))
        for first, last in pairwise(cut(rows.costs, sizes)):
            yield rows[first:last]


def shard_cost_most(device_class: DeviceClass, num_parameters: int, token_bytes: int = 0) -> int:
    """The most characters of a shard, by 2 FLOPs for each parameter and token, and by what a token leaves.

    `token_bytes` is the size of the vectors that every token keeps; 0 where only rows have vectors.
    """
    least, most = SHARD_COST[device_class]
    by_time = max(least, min(most, int(SHARD_FLOPS[device_class] / (2 * max(num_parameters, 1)))))
    return min(by_time, max(1, SHARD_BYTES // token_bytes)) if token_bytes else by_time


def least_num_shards(costs: Int64s, cost_most: float, records_most: float = RECORDS_PER_SHARD[1]) -> int:
    """So many that their mean is within both limits."""
    return max(1, math.ceil(int(costs.sum()) / cost_most), math.ceil(len(costs) / records_most))


def shard_records_most(device_class: DeviceClass) -> int:
    """The most records of a shard."""
    return RECORDS_OF_A_GPU if device_class == "cuda" else RECORDS_PER_SHARD[1]


def default_num_shards(costs: Int64s, cost_most: int, records_most: int = RECORDS_PER_SHARD[1]) -> int:
    """How many tapering shards records of these costs make."""
    least = RECORDS_PER_SHARD[0]
    wanted = min(max(SHARDS_LEAST, WANTED_COST * int(costs.sum()) // cost_most), SHARDS_WANTED)
    return max(
        least_num_shards(costs, cost_most / LARGEST, records_most / LARGEST), min(wanted, len(costs) // least)
    )


def tapering_sizes(num_shards: int, num_records: int) -> Sizes:
    """What each shard is to cost beside the first one, [num_shards], or fewer where there are fewer records.

    Of eight the first five cost the same; from there on each costs less by the same factor, down to a
    quarter, or to what 16 records cost on average. The last three of eight cost about a quarter of all.
    """
    num_shards = min(num_shards, num_records)
    num_tapered = (3 * num_shards + 1) // 8
    smallest = min(1.0, max(SMALLEST, RECORDS_PER_SHARD[0] * num_shards / num_records))
    steps = np.arange(1, num_shards + 1) - (num_shards - num_tapered)
    sizes: Sizes = smallest ** (np.maximum(steps, 0) / max(num_tapered, 1))
    return sizes


def cut(costs: Int64s, sizes: Sizes) -> list[int]:
    """Bounds of the runs: each ends where the running cost reaches its share, none is empty.

    `sizes` [at most as many as costs] says what each is to cost beside the others.
    """
    running, num_shards = np.cumsum(costs), len(sizes)
    shares = running[-1] * np.cumsum(sizes)[:-1] / sizes.sum()
    bounds = [0]
    for number, end in enumerate(np.searchsorted(running, shares) + 1, start=1):
        left_for_others = len(costs) - (num_shards - number)
        bounds.append(min(max(int(end), bounds[-1] + 1), left_for_others))
    return [*bounds, len(costs)]


def _arrow_file(rows: Rows, spool: Spool) -> pa.Buffer:
    table = spool.select(rows.ordinals)
    # One chunk, rebuilt from the values: a slice would carry the offsets of the spool into the bytes.
    texts = [pa.array(table[name].to_pylist(), pa.string()) for name in RECORD_SCHEMA.names]
    columns = [pa.array(rows.ordinals.astype(np.uint64)), *texts, pa.array(rows.copies)]
    file = pa.BufferOutputStream()
    with pa.ipc.new_file(file, SHARD_SCHEMA, options=IPC_OPTIONS) as writer:
        writer.write_batch(pa.record_batch(columns, schema=SHARD_SCHEMA))
    return file.getvalue()
