"""The records that were quarantined, and another chance for those that did harm."""

import shutil
from collections.abc import Collection
from pathlib import Path

from checkpoint.errors import CheckpointError
from checkpoint.records import DoneRecord, QuarantineEntry
from checkpoint.store import CheckpointStore
from queue_app.errors import UsageError
from queue_app.host.file_lock import FileLock
from queue_app.job.directory import JobDir
from queue_app.job.done_records import current_generation, read_done, reopen
from queue_app.job.quarantine_reasons import MOSTLY_UNKNOWN
from queue_app.job.shard_files import read_shard
from queue_app.job.shard_table import Shard
from queue_app.job.spec import Job
from queue_app.settings import runtime_config
from queue_app.shown import tsv_cell


def list_quarantine(job_dir: JobDir) -> list[QuarantineEntry]:
    """What finished shards, and the stores of the others, have quarantined so far; by ordinal."""
    job = job_dir.load()
    found = (_of_shard(job, job_dir, shard, read_done(job_dir, shard)) for shard in job.shards)
    entries = [entry for entries in found for entry in entries]
    return sorted(entries, key=lambda entry: entry.ordinal)


def tsv_line(entry: QuarantineEntry) -> str:
    """A row of quarantine.tsv, without the line break; its texts are escaped."""
    return "\t".join((str(entry.ordinal), tsv_cell(entry.id), str(entry.length), tsv_cell(entry.reason)))


def retry_quarantine(job_dir: JobDir) -> list[QuarantineEntry]:
    """Forget the shards of records that did harm, so that the next run tries them again; answers these.

    Records that cannot be embedded as they stand (empty, illegal letters, unknown to the model) stay.

    Raises:
        JobBusy: a process works on the job.
        UsageError: its shard files are gone (`holdfast clean`).
    """
    with FileLock(job_dir.path / "lock"):
        job = job_dir.load()
        found = {shard: current_generation(job_dir, shard) for shard in job.shards}
        harmful = {shard: _harmful(job, job_dir, shard, seen.record) for shard, seen in found.items()}
        for shard in (shard for shard, entries in harmful.items() if entries):
            if found[shard].is_taken:
                reopen(job_dir, shard, found[shard])
            shutil.rmtree(_store_path(job, job_dir, shard.index), ignore_errors=True)
    return [entry for entries in harmful.values() for entry in entries]


def _of_shard(
    job: Job, job_dir: JobDir, shard: Shard, done: DoneRecord | None
) -> Collection[QuarantineEntry]:
    """Out of its done record, or as long as there is none out of its checkpoints."""
    if done is not None:
        return done.quarantine
    path = _store_path(job, job_dir, shard.index)
    if not (path / "data.mdb").is_file():
        return ()
    try:
        with CheckpointStore.open_readonly(path) as store:
            return store.quarantine()
    except CheckpointError:
        return ()  # its next owner verifies it; until then it says nothing


def _harmful(job: Job, job_dir: JobDir, shard: Shard, done: DoneRecord | None) -> list[QuarantineEntry]:
    entries = _of_shard(job, job_dir, shard, done)
    if not entries:
        return []
    path = job_dir.shard(shard.index)
    if not path.is_file():
        raise UsageError(f"{path} is gone; embed again with --overwrite")
    records = read_shard(path, shard)
    problems = zip(records.ordinals.tolist(), records.problems, strict=True)
    bad = {ordinal for ordinal, problem in problems if problem is not None}
    longest = job.options.max_length if job.options.long == "error" else None
    return [
        entry
        for entry in entries
        if entry.ordinal not in bad
        and (longest is None or entry.length <= longest)
        and not entry.reason.startswith(MOSTLY_UNKNOWN)
    ]


def _store_path(job: Job, job_dir: JobDir, index: int) -> Path:
    return job_dir.checkpoint(index, job.job_id, runtime_config().scratch)
