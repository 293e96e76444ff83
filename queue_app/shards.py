"""Shards: contiguous runs of the dataset, each one small self-contained Arrow file.

Cutting into equal costs needs the total, which is known only at the end of the input: the records are
spooled to one Arrow file first, and the shards cut from its memory map.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from queue_app.dataset import Record
from queue_app.durable import file_digest, removed_on_failure, rename_durably, room_for, sync_file
from queue_app.errors import Damage, InputError
from queue_app.job import DeviceClass, JobDir, Shard

SCHEMA = pa.schema([("id", pa.string()), ("sequence", pa.string()), ("problem", pa.string())])
"""`problem` is null for a good record. A bad one keeps its place, so that ordinal = first + row always."""

SPOOL_CHARACTERS = 4 << 20
RECORD_COST = 8
"""In characters: what a record costs beside its length."""
SHARD_FLOPS = {"cpu": 1e14, "cuda": 1e16}
"""A minute or a few of a device; its gap between two shards is a fraction of a second."""
SHARD_COST = {"cpu": (250_000, 4_000_000), "cuda": (1_000_000, 32_000_000)}
"""Least and most characters, whatever the model: a worker holds a shard's sequences and vectors in memory."""
SHARD_BYTES = 64 << 20
"""Of the vectors of a shard where every token keeps its own: to publish them takes several copies."""
SHARDS_LEAST = 32
RECORDS_PER_SHARD = (16, 16_384)
"""Least, where the number of shards is to be chosen, and most: what a worker holds of each record adds up."""


@dataclass(frozen=True, slots=True)
class ShardRecords:
    """The columns of one shard's file."""

    ids: list[str]
    sequences: list[str]
    problems: list[str | None]


def write_shards(
    records: Iterable[Record], job_dir: JobDir, job_id: str, *, num_shards: int | None, cost_most: int
) -> tuple[Shard, ...]:
    """Write shards/<index>.arrow, about equal in estimated cost, in the input's order.

    Without `num_shards` there are at least 32, where there are records enough, and so many that on average
    none costs more than `cost_most`, in characters, or has more than 16,384 records.

    Raises:
        InputError: there are no records.
        DiskFull: no room for the shards.
    """
    spool = job_dir.shards / ".spool.arrow"
    with room_for(spool), removed_on_failure(spool):
        costs = _spool(records, spool)
        if not len(costs):
            raise InputError("no records in the inputs")
        bounds = cut(costs, num_shards or default_num_shards(costs, cost_most))
        with pa.memory_map(str(spool)) as mapped:
            table = pa.ipc.open_file(mapped).read_all()
            shards = tuple(
                _write_shard(table, job_dir, job_id, index, int(first), int(last), costs)
                for index, (first, last) in enumerate(pairwise(bounds))
            )
            del table
        spool.unlink()
    return shards


def shard_cost_most(device_class: DeviceClass, num_parameters: int, token_bytes: int = 0) -> int:
    """The most characters of a shard, by 2 FLOPs for each parameter and token, and by what a token leaves.

    `token_bytes` is the size of the vectors that every token keeps; 0 where only rows have vectors.
    """
    least, most = SHARD_COST[device_class]
    by_time = max(least, min(most, int(SHARD_FLOPS[device_class] / (2 * max(num_parameters, 1)))))
    return min(by_time, max(1, SHARD_BYTES // token_bytes)) if token_bytes else by_time


def read_shard(path: Path, shard: Shard) -> ShardRecords:
    """The records of a shard. Raises Damage when the file is not the one that was submitted."""
    if file_digest(path) != shard.digest:
        raise Damage(f"{path}: not the shard that was submitted; run embed again with --overwrite")
    with pa.memory_map(str(path)) as mapped:
        table = pa.ipc.open_file(mapped).read_all()
        if table.num_rows != shard.num_records:
            raise Damage(f"{path}: {table.num_rows} records instead of {shard.num_records}")
        return ShardRecords(
            table["id"].to_pylist(), table["sequence"].to_pylist(), table["problem"].to_pylist()
        )


def _spool(records: Iterable[Record], spool: Path) -> npt.NDArray[np.int64]:
    """Write all records to one file; answers the cost of each."""
    import pyarrow.compute as pc  # here, as a worker that only reads shards has no use for it

    costs: list[npt.NDArray[np.int64]] = [np.empty(0, np.int64)]
    with pa.OSFile(str(spool), "wb") as file, pa.ipc.new_file(file, SCHEMA) as writer:
        for batch in _batches(records):
            writer.write_batch(batch)
            lengths = pc.binary_length(batch.column("sequence")).to_numpy(zero_copy_only=False)
            costs.append(lengths.astype(np.int64) + RECORD_COST)
    return np.concatenate(costs)


def _batches(records: Iterable[Record]) -> Iterator[pa.RecordBatch]:
    rows: list[Record] = []
    waiting = 0
    for record in records:
        rows.append(record)
        waiting += len(record.sequence) + RECORD_COST
        if waiting >= SPOOL_CHARACTERS:
            yield _batch(rows)
            rows, waiting = [], 0
    if rows:
        yield _batch(rows)


def _batch(rows: list[Record]) -> pa.RecordBatch:
    columns = [[row.id for row in rows], [row.sequence for row in rows], [row.problem for row in rows]]
    return pa.record_batch([pa.array(column, pa.string()) for column in columns], schema=SCHEMA)


def default_num_shards(costs: npt.NDArray[np.int64], cost_most: int) -> int:
    least, most = RECORDS_PER_SHARD
    by_cost = -(-int(costs.sum()) // cost_most)
    by_records = -(-len(costs) // most)
    return max(1, by_cost, by_records, min(SHARDS_LEAST, len(costs) // least))


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


def _write_shard(
    table: pa.Table,
    job_dir: JobDir,
    job_id: str,
    index: int,
    first: int,
    last: int,
    costs: npt.NDArray[np.int64],
) -> Shard:
    path = job_dir.shard(index)
    temporary = path.with_name(f".{path.name}.tmp")
    # One chunk, rebuilt from the values: a slice would carry the offsets of the spool into the bytes.
    rows = pa.table(
        [pa.array(table[name][first:last].to_pylist(), pa.string()) for name in SCHEMA.names], schema=SCHEMA
    )
    with pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_file(file, SCHEMA) as writer:
        writer.write_table(rows)
    sync_file(temporary)
    digest = file_digest(temporary)
    rename_durably(temporary, path)
    return Shard(job_id, index, last - first, int(costs[first:last].sum()), first, digest)
