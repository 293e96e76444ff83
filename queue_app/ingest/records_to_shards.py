"""From the stream of records to what a job directory is made of: shards, twins, sequences, what
stays with the records, copied results."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from queue_app.array_types import Int64s
from queue_app.host.durable_files import file_digest, sync_file
from queue_app.host.own_files import begun, make_inner_directory
from queue_app.ingest.cut_shards import RECORDS_PER_SHARD, write_shards
from queue_app.ingest.kept_spool import KeptSpool
from queue_app.ingest.record_spool import Spool, spooled
from queue_app.ingest.reuse import Previous, copy_results
from queue_app.job.directory import JobDir
from queue_app.job.duplicates import NOT_FOUND, TWINS_SCHEMA, write_sequences
from queue_app.job.shard_files import Record
from queue_app.job.shard_table import ShardTable
from queue_app.job.spec import DatasetCounts, KeptFile, Reuse, TwinsFile


@dataclass(frozen=True, slots=True)
class Ingested:
    """What was written; the fields of the same names in job.json."""

    counts: DatasetCounts
    shards: ShardTable
    sequences_digest: str
    kept: KeptFile | None
    twins: TwinsFile | None
    reuse: Reuse | None


def ingest(
    records: Iterable[Record],
    job_dir: JobDir,
    job_id: str,
    *,
    num_shards: int | None,
    cost_most: int,
    dedup: bool,
    previous: Previous | None,
    records_most: int = RECORDS_PER_SHARD[1],
    keep: Sequence[str] = (),
) -> Ingested:
    """Read all records; every one ends in a shard, or as the twin of one that does.

    `num_shards`, `cost_most` and `records_most` are about the shards that are computed, as in `write_shards`;
    those of copied vectors stand behind them. `keep` names columns that kept.parquet has before others.

    Raises:
        InputError: there are no records.
        DiskFull: no room.
    """
    for path in (job_dir.shards, job_dir.results, job_dir.dones):
        make_inner_directory(path)
    home = job_dir.path
    with (
        KeptSpool(home / ".kept") as beside,
        spooled(beside.passing(records), home / ".spool.arrow") as spool,
    ):
        kept = beside.write(job_dir.kept, keep)
        census = spool.census
        firsts = census.firsts(dedup=dedup)
        twins = _write_duplicates(job_dir.twins, spool, firsts)
        rows = census.rows(firsts, previous.find if previous else None)
        good = rows.ordinals[census.good[rows.ordinals]]
        sequences_digest = write_sequences(job_dir.sequences, good.astype(np.uint64), census.hashes[good])
        new, known = rows[rows.sources == NOT_FOUND], rows[rows.sources != NOT_FOUND]
        write = partial(write_shards, cost_most=cost_most, records_most=records_most)
        computed = write(spool, new, job_dir, job_id, num_shards=num_shards)
        first_index = len(computed)
        reused = write(spool, known, job_dir, job_id, num_shards=None, first_index=first_index, reused=True)
    reuse = None
    if previous is not None:
        reuse = Reuse(previous.path, previous.job.job_id, previous.digest, len(known))
        if reused:
            copy_results(previous, job_dir, reused, known.sources)
    shards = ShardTable.of(job_id, (*computed, *reused))
    return Ingested(census.counts, shards, sequences_digest, kept, twins, reuse)


def _write_duplicates(path: Path, spool: Spool, firsts: Int64s) -> TwinsFile | None:
    """Write the rows that are not their own firsts; None, and no file, where there are none."""
    duplicates = np.flatnonzero(firsts != np.arange(len(firsts)))
    if not len(duplicates):
        return None
    start = 0
    with pa.OSFile(begun(path), "wb") as file, pa.ipc.new_file(file, TWINS_SCHEMA) as writer:
        for batch in spool.table.to_batches():
            end = start + batch.num_rows
            rows = duplicates[np.searchsorted(duplicates, start) : np.searchsorted(duplicates, end)]
            ids = batch.column("id").take(pa.array(rows - start))
            columns = [rows.astype(np.uint64), ids, firsts[rows].astype(np.uint64)]
            writer.write_batch(pa.record_batch(columns, schema=TWINS_SCHEMA))
            start = end
            spool.let_go()
    sync_file(path)
    return TwinsFile(file_digest(path), len(duplicates), len(np.unique(firsts[duplicates])))
