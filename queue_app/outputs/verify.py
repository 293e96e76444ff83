"""`holdfast verify`: check a job directory against everything that was promised about it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from checkpoint.records import DoneRecord
from checkpoint.verify import verify_store
from queue_app.errors import HoldfastError
from queue_app.host.durable_files import file_digest
from queue_app.job.directory import JobDir
from queue_app.job.done_records import read_done
from queue_app.job.duplicates import read_twins
from queue_app.job.result_files import iter_result
from queue_app.job.sequences import Int64s, check_digest
from queue_app.job.shard_files import ShardRecords, read_shard
from queue_app.job.spec import Job, Shard
from queue_app.outputs.coverage import Coverage
from queue_app.outputs.export import output_damage
from queue_app.settings import runtime_config


@dataclass(frozen=True, slots=True)
class JobReport:
    """What was found: counts over the shards, and one line per damage."""

    job_id: str
    num_shards: int
    num_done: int
    num_records: int
    num_embedded: int
    num_quarantined: int
    num_blocks: int
    damage: tuple[str, ...]

    @property
    def sound(self) -> bool:
        return not self.damage

    def as_json(self) -> dict[str, Any]:
        return {
            "job": self.job_id,
            "sound": self.sound,
            "finished": self.num_done == self.num_shards,
            "shards": {"total": self.num_shards, "done": self.num_done},
            "sequences": {
                "total": self.num_records,
                "done": self.num_embedded,
                "quarantined": self.num_quarantined,
            },
            "blocks": self.num_blocks,
            "damage": list(self.damage),
        }

    def lines(self) -> list[str]:
        verdict = "sound" if self.sound else f"DAMAGED in {len(self.damage)} place(s)"
        finished = "finished" if self.num_done == self.num_shards else "unfinished"
        summary = (
            f"job {self.job_id}: {finished} and {verdict}: {self.num_done}/{self.num_shards} shards done, "
            f"{self.num_embedded:,} embedded + {self.num_quarantined:,} quarantined of {self.num_records:,}, "
            f"{self.num_blocks} checkpoint blocks checked"
        )
        return [*self.damage, summary]


def verify_job(job_dir: JobDir) -> JobReport:
    """Check every shard file, result, done record, checkpoint store and the output. Changes nothing."""
    job = job_dir.load()
    damage: list[str] = []
    coverage = Coverage(job.counts.num_records)
    records = [_check_shard(job_dir, shard, coverage, damage) for shard in job.shards]
    done = [record for record in records if record is not None]
    damage.extend(_files_damage(job, job_dir, coverage))
    damage.extend(coverage.damage(finished=len(done) == len(job.shards)) if not damage else [])
    damage.extend(output_damage(job, job_dir))
    num_blocks = sum(_check_store(job, job_dir, shard, damage) for shard in job.shards)
    return JobReport(
        job_id=job.job_id,
        num_shards=len(job.shards),
        num_done=len(done),
        num_records=job.counts.num_records,
        num_embedded=sum(record.num_embedded for record in done),
        num_quarantined=sum(len(record.quarantine) for record in done),
        num_blocks=num_blocks,
        damage=tuple(damage),
    )


def _check_shard(job_dir: JobDir, shard: Shard, coverage: Coverage, damage: list[str]) -> DoneRecord | None:
    records = None
    try:
        if job_dir.shard(shard.index).exists():
            records = read_shard(job_dir.shard(shard.index), shard)
        elif not job_dir.done(shard.index).exists():
            damage.append(f"shard {shard.index}: {job_dir.shard(shard.index)} is missing")
    except HoldfastError as error:
        damage.append(str(error))
    record = read_done(job_dir, shard.index)
    if record is None:
        if job_dir.done(shard.index).exists():
            damage.append(f"shard {shard.index}: {job_dir.done(shard.index)} is unreadable")
        return None
    found = _result_damage(job_dir, shard, record, records, coverage)
    damage.extend(f"shard {shard.index}: {line}" for line in found)
    return record


def _result_damage(
    job_dir: JobDir, shard: Shard, record: DoneRecord, records: ShardRecords | None, coverage: Coverage
) -> list[str]:
    path = job_dir.results / record.file
    if not path.is_file():
        return [f"result {path} is missing"]
    if file_digest(path) != record.digest:
        return [f"result {path} is not the one that was published (digest differs)"]
    embedded, set_aside = _ordinals(path), [entry.ordinal for entry in record.quarantine]
    coverage.embed(embedded)
    coverage.set_aside(set_aside)
    accounted_for = record.num_embedded + len(set_aside) == shard.num_records
    if not accounted_for or (
        records and set(records.ordinals.tolist()) - {*set_aside} != {*embedded.tolist()}
    ):
        return [f"result {path} does not hold the shard's records"]
    return []


def _ordinals(path: Path) -> Int64s:
    columns = [batch.column("ordinal").to_numpy() for batch in iter_result(path)]
    return np.concatenate([np.empty(0, np.int64), *columns])


def _files_damage(job: Job, job_dir: JobDir, coverage: Coverage) -> list[str]:
    """What is wrong with the files beside the shards."""
    damage = []
    try:
        check_digest(job_dir.sequences, job.sequences_digest)
    except HoldfastError as error:
        damage.append(str(error))
    try:
        for twins in read_twins(job, job_dir):
            coverage.embed_twins(twins)
    except HoldfastError as error:
        damage.append(str(error))
    return damage


def _check_store(job: Job, job_dir: JobDir, shard: Shard, damage: list[str]) -> int:
    path = job_dir.checkpoint(shard.index, job.job_id, runtime_config().scratch)
    if not path.exists():
        return 0
    report = verify_store(path, job_digest=bytes.fromhex(job.digest))
    if not report.readable:
        damage.append(f"shard {shard.index}: checkpoint store {path} cannot be read: {report.error}")
    damage.extend(f"shard {shard.index}: checkpoint batch {index} is damaged" for index in report.damaged)
    return report.num_blocks
