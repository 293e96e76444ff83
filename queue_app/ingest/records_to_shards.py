"""From the stream of records to what a job directory is made of: shards, twins, sequences, copied results."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from queue_app.host.durable_files import file_digest, sync_file
from queue_app.ingest.record_spool import Spool, spooled
from queue_app.ingest.records import Record
from queue_app.ingest.reuse import NOT_FOUND, Previous, copy_results
from queue_app.ingest.shard_writer import Rows, write_shards
from queue_app.job.directory import JobDir
from queue_app.job.duplicates import SCHEMA
from queue_app.job.sequences import Int64s, find_firsts, write_sequences
from queue_app.job.spec import Reuse, Shard, TwinsFile


@dataclass(frozen=True, slots=True)
class Ingested:
    """What was written; the fields of the same names in job.json."""

    shards: tuple[Shard, ...]
    sequences_digest: str
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
) -> Ingested:
    """Read all records; every one ends in a shard, or as the twin of one that does.

    `num_shards` and `cost_most` are about the shards that are computed, as in `write_shards`; those of
    copied vectors stand behind them.

    Raises:
        InputError: there are no records.
        DiskFull: no room.
    """
    for path in (job_dir.shards, job_dir.results, job_dir.dones):
        path.mkdir(parents=True)
    with spooled(records, job_dir.path / ".spool.arrow") as spool:
        firsts = _firsts(spool, dedup=dedup)
        twins = write_twins(job_dir.twins, spool, firsts)
        rows = _rows(spool, firsts)
        good = rows.places[spool.good[rows.places]]
        sequences_digest = write_sequences(job_dir.sequences, good.astype(np.uint64), spool.hashes[good])
        sources = _sources(rows, previous)
        is_new = sources == NOT_FOUND
        computed = write_shards(
            rows.only(is_new), job_dir, job_id, num_shards=num_shards, cost_most=cost_most
        )
        reused = write_shards(
            rows.only(~is_new), job_dir, job_id, num_shards=None, cost_most=cost_most,
            first_index=len(computed), reused=True,
        )  # fmt: skip
    if previous is not None and reused:
        copy_results(previous, job_dir, reused, sources[~is_new])
    return Ingested((*computed, *reused), sequences_digest, twins, _reuse(previous, reused))


def _firsts(spool: Spool, *, dedup: bool) -> Int64s:
    """Per record the first one of its sequence. A bad record is nobody's twin."""
    if not dedup:
        return np.arange(len(spool.costs))
    firsts, bad = find_firsts(spool.hashes), np.flatnonzero(~spool.good)
    firsts[bad] = bad
    return firsts


def _rows(spool: Spool, firsts: Int64s) -> Rows:
    places = np.flatnonzero(firsts == np.arange(len(firsts)))
    return Rows(spool, places, np.bincount(firsts, minlength=len(firsts))[places])


def _sources(rows: Rows, previous: Previous | None) -> Int64s:
    """Per row the row of the earlier job that it is copied from, or NOT_FOUND."""
    sources = np.full(len(rows.places), NOT_FOUND)
    if previous is not None:
        good = rows.spool.good[rows.places]
        sources[good] = previous.find(rows.spool.hashes[rows.places[good]])
    return sources


def _reuse(previous: Previous | None, reused: tuple[Shard, ...]) -> Reuse | None:
    if previous is None:
        return None
    num_vectors = sum(shard.num_rows for shard in reused)
    return Reuse(previous.path, previous.job.job_id, previous.digest, num_vectors)


def write_twins(path: Path, spool: Spool, firsts: Int64s) -> TwinsFile | None:
    """Write the rows that are not their own firsts; None, and no file, where there are none."""
    twins = np.flatnonzero(firsts != np.arange(len(firsts)))
    if not len(twins):
        return None
    start = 0
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, SCHEMA) as writer:
        for batch in spool.table.to_batches():
            end = start + batch.num_rows
            rows = twins[np.searchsorted(twins, start) : np.searchsorted(twins, end)]
            ids = batch.column("id").take(pa.array(rows - start))
            writer.write_batch(
                pa.record_batch([rows.astype(np.uint64), ids, firsts[rows].astype(np.uint64)], schema=SCHEMA)
            )
            start = end
    sync_file(path)
    return TwinsFile(file_digest(path), len(twins), len(np.unique(firsts[twins])))
