"""Vectors of an earlier job, found by the content of their sequences and copied instead of computed.

What is copied becomes shards of the new job that are done from the start: nothing of the earlier job is
needed afterwards. Only results that it has published, and that are whole, are taken.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from checkpoint.records import DoneRecord, Kind
from queue_app.array_types import Hashes, Int64s
from queue_app.errors import Damage, OtherVersion, UsageError
from queue_app.host.spilled_rows import SpilledRows
from queue_app.ingest.request_changes import differing, named
from queue_app.job.directory import JobDir, find_job_directory
from queue_app.job.done_records import create, published_result, read_done
from queue_app.job.duplicates import NOT_FOUND, find_firsts, read_sequences
from queue_app.job.result_files import embeddings_of, result_rows, write_result
from queue_app.job.result_rows import among, computed_rows
from queue_app.job.shard_files import read_shard
from queue_app.job.shard_table import Shard
from queue_app.job.spec import EmbedOptions, Job
from queue_app.model.spec import ModelSpec
from queue_app.model.wording import model_differences

MAY_DIFFER = frozenset(
    {"alphabet", "toks_per_batch", "dedup", "input_format", "id_column", "sequence_column", "delimiter"}
    | {"id", "keep", "limit", "exact"}
)
"""Options that say what is read, or change no more than the last bits of a vector."""
NO_TOKEN = 0
"""In the names of copied results: no worker ever holds this one."""


@dataclass(frozen=True, slots=True)
class Previous:
    """An earlier job and what it has published: the done records of its sound results, by shard."""

    path: str
    job: Job
    job_dir: JobDir
    done: Mapping[int, DoneRecord]

    @property
    def digest(self) -> str:
        """xxh3-128 (hex) over everything that can be copied."""
        state = xxhash.xxh3_128(self.job.digest.encode())
        for record in self.done.values():
            state.update(record.digest.encode())
        return state.hexdigest()

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What computed anything of it, each once."""
        return tuple(dict.fromkeys(kind for record in self.done.values() for kind in record.kinds))

    def only_kind(self) -> Kind | None:
        """What computed all of it; None where nothing is. Raises UsageError where that is not one kind."""
        embedded = [record for record in self.done.values() if record.num_embedded]
        if not embedded:
            return None
        if len(self.kinds) != 1 or not all(record.kinds for record in embedded):
            told = "; ".join(map(str, self.kinds)) or "not known"
            raise UsageError(
                f"--one-kind: the vectors of --reuse {self.path} were not computed by one kind ({told}); "
                "leave one of the two options away"
            )
        return self.kinds[0]

    def find(self, hashes: Hashes) -> Int64s:
        """Per sequence the ordinal of a row of the earlier job, or NOT_FOUND.

        Raises Damage when that job does not know its sequences any more.
        """
        try:
            ordinals, known = read_sequences(self.job, self.job_dir)
        except Damage:
            raise Damage(
                f"{self.job_dir.sequences}: not the file that was written at submit, and without it nothing "
                "is found; leave --reuse away"
            ) from None
        published = among(ordinals, np.sort(self._published()))
        ordinals, known = ordinals[published], known[published]
        firsts = find_firsts(np.concatenate([known, hashes]))[len(known) :]
        sources = np.full(len(hashes), NOT_FOUND)
        found = firsts < len(known)
        sources[found] = ordinals[firsts[found]]
        return sources

    def _published(self) -> Int64s:
        paths = [self.job_dir.results / record.file for record in self.done.values()]
        columns = [pq.read_table(path, columns=["ordinal"])["ordinal"].to_numpy() for path in paths]
        return np.concatenate([np.empty(0, np.int64), *columns])


def open_previous(path: Path, spec: ModelSpec, options: EmbedOptions) -> Previous:
    """The job of an output or a job directory, finished or not.

    Raises:
        UsageError: there is none, or its vectors are not those that this job would compute; names what
            differs.
    """
    job_dir = find_job_directory(path)
    try:
        job = job_dir.load()
    except OtherVersion:
        raise UsageError(
            f"--reuse {path}: that job was made by another version of Holdfast, whose vectors may differ"
        ) from None
    others: list[tuple[str, object, object]] = [("model", job.model.name, spec.name)]
    if job.model.digest == spec.digest:
        others = [*model_differences(job.model, spec)]
    others += [each for each in differing(job.options, options) if each[0] not in MAY_DIFFER]
    if others:
        told = "; ".join(f"{what}: {there} there, {here} here" for what, there, here in others)
        raise UsageError(
            f"--reuse {path}: its vectors are other ones ({told}); ask for the same, or leave --reuse away"
        )
    done = {shard.index: record for shard in job.shards if (record := _sound(job_dir, shard))}
    return Previous(named(path), job, job_dir, done)


def _sound(job_dir: JobDir, shard: Shard) -> DoneRecord | None:
    """What a shard has published; None where that is nothing, or damaged."""
    record = read_done(job_dir, shard)
    return record if record and published_result(job_dir, record) else None


def copy_results(previous: Previous, job_dir: JobDir, shards: Sequence[Shard], sources: Int64s) -> None:
    """Publish these shards with the vectors of the earlier job.

    `sources` names its row for each of their rows, end to end. The vectors pass through a file, as the two
    jobs may have their records in different orders.

    Raises:
        Damage: the earlier job's results changed meanwhile.
        DiskFull: no room for the vectors, which for a while lie there twice.
    """
    wanted = np.unique(sources)
    places = np.searchsorted(wanted, sources)
    with SpilledRows(job_dir.aside) as file:
        for rows in computed_rows(previous.job, previous.job_dir, previous.done):
            taken = among(rows.column("ordinal").to_numpy(), wanted)
            file.append(embeddings_of(rows).filter(pa.array(taken)))
        if file.num_rows != len(wanted):
            raise Damage(f"{previous.job_dir.path}: its results changed while they were copied; run again")
        start = 0
        for shard in shards:
            _publish(job_dir, shard, file, places[start : start + shard.num_rows], previous.kinds)
            start += shard.num_rows


def _publish(
    job_dir: JobDir, shard: Shard, file: SpilledRows, places: Int64s, kinds: tuple[Kind, ...]
) -> None:
    records = read_shard(job_dir.shard(shard.index), shard)
    path = job_dir.result(shard.index, NO_TOKEN)
    rows = result_rows(records.ids, records.ordinals, file.take(places))
    digest = write_result(path, rows.schema, [rows])
    num_records, job_id = shard.num_records, shard.job_id
    create(
        job_dir,
        shard,
        DoneRecord(path.name, digest, num_records, num_records, kinds=kinds, job=job_id),
    )
