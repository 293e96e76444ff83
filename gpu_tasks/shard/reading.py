"""A shard's records read, tokenised and planned: nothing is written of it but the note of its tokenising.

Who holds the shard does it under that note. Ahead of the lease it is done without one, as nobody but the
holder may write to the shard's store: so a shard that has a note already is left alone then.
"""

from dataclasses import dataclass
from pathlib import Path

from checkpoint import CheckpointStore
from gpu_tasks.inference.batch_plan import BatchPlan
from gpu_tasks.inference.model import EmbeddingModel
from gpu_tasks.shard.plan_shard import plan_shard
from gpu_tasks.shard.tokenizing import TokenizingLog
from queue_app.job.directory import JobDir
from queue_app.job.shard_files import ShardRecords, read_shard
from queue_app.job.shard_table import Shard
from queue_app.job.spec import Job

NOTE = "tokenizing.json"


@dataclass(frozen=True, slots=True, eq=False)
class ReadShard:
    """What is read of a shard, and the batches that its records make with one model."""

    records: ShardRecords
    plan: BatchPlan


def read_and_plan(
    job: Job, job_dir: JobDir, shard: Shard, model: EmbeddingModel, store_path: Path, accuse_after: int
) -> ReadShard:
    """For the holder of the shard. Raises as `read_shard` and `plan_shard` do, and DiskFull."""
    records = read_shard(job_dir.shard(shard.index), shard)
    noted = TokenizingLog.open(store_path / NOTE, accuse_after=accuse_after)
    if noted.has_accused:
        CheckpointStore.discard(store_path)  # of a host that could tokenise it: with another plan
    return ReadShard(records, plan_shard(job, model, records, noted))


def read_ahead(
    job: Job, job_dir: JobDir, shard: Shard, model: EmbeddingModel, store_path: Path
) -> ReadShard | None:
    """For who does not hold the shard yet; None where a process may have died of its texts.

    Should this one die of them, the note is missing that would accuse one: the shard's holder writes it.
    Raises as `read_shard` and `plan_shard` do.
    """
    if is_noted(store_path):
        return None
    records = read_shard(job_dir.shard(shard.index), shard)
    return ReadShard(records, plan_shard(job, model, records))


def is_noted(store_path: Path) -> bool:
    """True when a process has died in the shard's texts, or is at them now: plans made without the note that
    says so may have a record too many."""
    return (store_path / NOTE).exists()
