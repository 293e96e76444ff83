"""`holdfast verify`: check a job directory against everything that was promised about it."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from checkpoint.records import DoneRecord
from checkpoint.verify import verify_store
from queue_app.array_types import Int64s
from queue_app.errors import HoldfastError
from queue_app.job.directory import JobDir
from queue_app.job.done_records import current_generation, published_result
from queue_app.job.duplicates import check_digest, read_duplicates
from queue_app.job.kept_columns import open_kept
from queue_app.job.result_files import iter_result
from queue_app.job.shard_files import ShardRecords, read_shard
from queue_app.job.shard_table import Shard
from queue_app.job.spec import Job
from queue_app.outputs.export import outdated_output, output_damage
from queue_app.outputs.faiss_index import index_damage
from queue_app.outputs.kinds import KindShare, mixed_text, shares_of
from queue_app.settings import runtime_config

NAMED_MOST = 5


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
    kinds: tuple[KindShare, ...] = ()
    """What computed the shards that are done."""

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
            "kinds": [asdict(share) for share in self.kinds],
            "mixed_kinds": mixed_text(self.kinds) or None,
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
        return [*self.damage, *filter(None, [mixed_text(self.kinds)]), summary]


def verify_job(job_dir: JobDir) -> JobReport:
    """Check every shard file, result, done record, checkpoint store and the output. Changes nothing.

    Raises Damage where job.json or the table of the shards is damaged: nothing else can be checked then.
    """
    job = job_dir.load()
    job.shards.content()
    checks = _Checks(job, job_dir)
    done = [record for shard in job.shards if (record := checks.check_shard(shard)) is not None]
    checks.check_files()
    if not checks.damage:
        checks.damage += checks.coverage.damage(finished=len(done) == len(job.shards))
    checks.damage += output_damage(job, job_dir) or outdated_output(job, job_dir, done)
    checks.damage += index_damage(job, job_dir, done)
    num_blocks = sum(map(checks.check_store, job.shards))
    return JobReport(
        job_id=job.job_id,
        num_shards=len(job.shards),
        num_done=len(done),
        num_records=job.counts.num_records,
        num_embedded=sum(record.num_embedded for record in done),
        num_quarantined=sum(len(record.quarantine) for record in done),
        num_blocks=num_blocks,
        damage=tuple(checks.damage),
        kinds=shares_of(done),
    )


class _Checks:
    """The checks of one job; `damage` grows by a line for each thing that is wrong."""

    def __init__(self, job: Job, job_dir: JobDir) -> None:
        self.job = job
        self.job_dir = job_dir
        self.coverage = Coverage(job.counts.num_records)
        self.damage: list[str] = []

    def check_shard(self, shard: Shard) -> DoneRecord | None:
        """The shard's file and its result; answers its done record."""
        path, found, records = self.job_dir.shard(shard.index), current_generation(self.job_dir, shard), None
        if path.exists():
            with self._noting_damage():
                records = read_shard(path, shard)
        elif not found.is_taken:
            self.damage.append(f"shard {shard.index}: {path} is missing")
        if found.record is not None:
            self._check_result(shard, found.record, records)
        elif found.is_taken:
            done = self.job_dir.done(shard.index, found.number)
            self.damage.append(f"shard {shard.index}: {done} is unreadable")
        return found.record

    def _check_result(self, shard: Shard, record: DoneRecord, records: ShardRecords | None) -> None:
        path = self.job_dir.results / record.file
        if published_result(self.job_dir, record) is None:
            what = "is not the one that was published (digest differs)" if path.is_file() else "is missing"
            self.damage.append(f"shard {shard.index}: result {path} {what}")
            return
        columns = [batch.column("ordinal").to_numpy() for batch in iter_result(path)]
        embedded = np.concatenate([np.empty(0, np.int64), *columns])
        set_aside = [entry.ordinal for entry in record.quarantine]
        self.coverage.embed(embedded)
        self.coverage.set_aside(set_aside)
        is_complete = record.num_embedded + len(set_aside) == shard.num_records
        if is_complete and records is not None:
            is_complete = set(records.ordinals.tolist()) - {*set_aside} == {*embedded.tolist()}
        if not is_complete:
            self.damage.append(f"shard {shard.index}: result {path} does not hold the shard's records")

    def check_files(self) -> None:
        """The files beside the shards."""
        with self._noting_damage():
            check_digest(self.job_dir.sequences, self.job.sequences_digest)
        with self._noting_damage():
            if (kept := open_kept(self.job, self.job_dir)) is not None:
                kept.close()
        with self._noting_damage():
            for duplicates in read_duplicates(self.job, self.job_dir):
                self.coverage.embed_duplicates(duplicates)

    def check_store(self, shard: Shard) -> int:
        """The shard's checkpoints, where they are there; answers how many blocks they have."""
        path = self.job_dir.checkpoint(shard.index, self.job.job_id, runtime_config().scratch)
        if not path.exists():
            return 0
        report, where = verify_store(path, job_digest=bytes.fromhex(self.job.digest)), f"shard {shard.index}"
        if not report.readable:
            self.damage.append(f"{where}: checkpoint store {path} cannot be read: {report.error}")
        self.damage += [f"{where}: checkpoint batch {index} is damaged" for index in report.damaged]
        return report.num_blocks

    @contextlib.contextmanager
    def _noting_damage(self) -> Iterator[None]:
        try:
            yield
        except HoldfastError as error:
            self.damage.append(str(error))


class Coverage:
    """How often each record was accounted for, which is once for all; two bytes a record."""

    def __init__(self, num_records: int) -> None:
        self._times = np.zeros(num_records, np.uint8)
        self._is_embedded = np.zeros(num_records, np.bool_)

    def embed(self, ordinals: Int64s) -> None:
        """These records have a row."""
        self._is_embedded[self._count(ordinals)] = True

    def set_aside(self, ordinals: Sequence[int]) -> None:
        self._count(np.array(ordinals, np.int64))

    def embed_duplicates(self, duplicates: pa.RecordBatch) -> None:
        """After all rows: duplicates have the row of their first, where it has one."""
        firsts = duplicates.column("first").to_numpy()
        self._count(duplicates.column("ordinal").to_numpy()[self._is_embedded[firsts]])

    def damage(self, *, finished: bool) -> list[str]:
        """What is wrong, one line each; of an unfinished job no record is missing yet."""
        found = {"accounted for more than once": np.flatnonzero(self._times > 1)}
        if finished:
            found["neither embedded nor quarantined"] = np.flatnonzero(self._times == 0)
        return [_line(ordinals, what) for what, ordinals in found.items() if len(ordinals)]

    def _count(self, ordinals: Int64s) -> Int64s:
        known = ordinals[ordinals < len(self._times)]
        np.add.at(self._times, known, 1)
        return known


def _line(ordinals: Int64s, what: str) -> str:
    named = ", ".join(map(str, ordinals[:NAMED_MOST]))
    more = f" and {len(ordinals) - NAMED_MOST:,} more" if len(ordinals) > NAMED_MOST else ""
    return f"records {named}{more} are {what}"
