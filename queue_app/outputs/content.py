"""What an output is written from: the rows of a finished job, streamed in input order, counted and digested.

Only the files that done records name are read, each against its digest; and records read = records embedded
+ records quarantined must hold.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cached_property
from heapq import merge

import pyarrow as pa
import xxhash

from checkpoint.records import DoneRecord
from queue_app.choices import H5Layout, Precision
from queue_app.errors import Damage, HoldfastError, UsageError
from queue_app.host.file_lock import FileLock
from queue_app.job.directory import JobDir
from queue_app.job.done_records import all_done, require_published, results_digest
from queue_app.job.duplicates import read_duplicates
from queue_app.job.kept_columns import KeptColumns, open_kept
from queue_app.job.readouts import column_names, is_contacts, is_ragged, vector_dim
from queue_app.job.result_files import as_matrix, num_vectors
from queue_app.job.result_rows import computed_rows, in_input_order
from queue_app.job.shard_files import read_shard
from queue_app.job.spec import Job
from queue_app.model.spec import ModelSpec
from queue_app.model.wording import described_head
from queue_app.outputs.kinds import shares_of
from queue_app.outputs.precision import coding_of

RecordSequences = Iterator[tuple[int, str | None]]
"""Ordinal and sequence of every record, by ordinal; None for a duplicate, whose sequence came before."""


def content_lock(job_dir: JobDir) -> FileLock:
    """Whoever streams the content puts vectors aside in the job directory: one at a time, the others wait."""
    return FileLock(job_dir.path / "export.lock", wait=True)


class Content:
    """All rows of a job; its reader holds `content_lock`. `digest` stands once `batches` was read to its end.

    Each of the `columns` has vectors of `dim` numbers: one for each row or, where they are ragged, for each
    token of it; of contacts each pair of tokens has one number. With another precision than float32 they are
    codes; the digest stays that of the vectors. `as_published` says that the `files`, one after another, hold
    what `batches` yields; each has its digest. `kinds` say what computed them.

    Raises:
        HoldfastError: shards are not done yet.
        Damage: a result is not the one that was published, or records are missing.
    """

    def __init__(
        self,
        job: Job,
        job_dir: JobDir,
        h5_layout: H5Layout | None = None,
        precision: Precision = "float32",
    ) -> None:
        done = _done_records(job, job_dir)
        self.files = {job_dir.results / record.file: record.digest for record in done}
        self.results_digest = results_digest(done)
        quarantine = (entry for record in done for entry in record.quarantine)
        self.quarantine = sorted(quarantine, key=lambda entry: entry.ordinal)
        self.num_rows = sum(record.num_embedded for record in done)
        is_whole = job.twins is None and job.reuse is None and job.kept is None
        self.as_published = is_whole or self.num_rows == 0
        self.kinds = shares_of(done)
        self._job, self._job_dir, self._done = job, job_dir, dict(enumerate(done))
        self.columns = column_names(job.options)
        self.is_ragged = is_ragged(job.options)
        self.is_contacts = is_contacts(job.options)
        dim, published = vector_dim(job.model, job.options), computed_rows(job, job_dir, self._done)
        self.coding = coding_of(precision, self.columns, dim, published)
        self.dim = self.coding.dim(dim)
        self.dtype = self.coding.dtype(job.options.store_dtype)
        self.h5_layout = h5_layout or job.run.h5_layout
        self.provenance = provenance(job, self.num_rows)
        if precision != "float32":
            self.provenance["precision"] = precision
        self.digest = ""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Batches of id, ordinal and the columns.

        Raises at the end, when nothing is in its place yet:
            Damage: rows are missing.
            HoldfastError: a shard was reopened meanwhile, so that these are not the rows that count.
        """
        digest, rows = ContentDigest(self.columns, ragged=self.is_ragged), 0
        for batch in in_input_order(self._job, self._job_dir, self._done):
            digest.update(batch)
            rows += batch.num_rows
            yield self.coding.encoded(batch, self.columns)
        if rows != self.num_rows:
            raise Damage(f"{rows} rows in the results, {self.num_rows} were published")
        if _all_done(self._job, self._job_dir) != [*self._done.values()]:
            raise HoldfastError(f"{self._job_dir.path}: results were published anew meanwhile; run again")
        self.digest = digest.hexdigest()

    @cached_property
    def kept(self) -> KeptColumns | None:
        """What stays with the records beside their ids. Raises Damage when it is not what was submitted."""
        return open_kept(self._job, self._job_dir)

    def batches_with_kept(self) -> Iterator[pa.RecordBatch]:
        """As `batches`, with the kept columns between ordinal and vectors. Raises as `kept`, too."""
        for batch in self.batches():
            own = self.kept.rows(batch.column("ordinal").to_numpy()) if self.kept else batch.select([])
            joined = [column.combine_chunks() for column in own.columns]
            columns = [*batch.columns[:2], *joined, *batch.columns[2:]]
            names = [*batch.schema.names[:2], *own.column_names, *batch.schema.names[2:]]
            yield pa.record_batch(columns, names=names)

    def sequences(self) -> RecordSequences:
        """The sequence of every record, in input order, read again from the shards. Raises Damage when a file
        is not the one that was submitted."""
        job, job_dir = self._job, self._job_dir
        streams = (_shards(job, job_dir, reused=False), _shards(job, job_dir, reused=True))
        return merge(*streams, _duplicates(job, job_dir), key=lambda found: found[0])


def _done_records(job: Job, job_dir: JobDir) -> list[DoneRecord]:
    """Every shard's done record, checked for completeness, its file for its digest."""
    records = _all_done(job, job_dir)
    for shard, record in zip(job.shards, records, strict=True):
        require_published(job_dir, shard.index, record)
        if record.num_embedded + len(record.quarantine) != shard.num_records:
            raise Damage(
                f"shard {shard.index}: {record.num_embedded} embedded + {len(record.quarantine)} "
                f"quarantined, of {shard.num_records} records"
            )
    total = sum(record.num_embedded + len(record.quarantine) for record in records)
    if total != job.counts.num_records:
        raise Damage(f"{job_dir.path}: {total} records accounted for, {job.counts.num_records} were read")
    return records


def _all_done(job: Job, job_dir: JobDir) -> list[DoneRecord]:
    return all_done(job, job_dir, how_to_go_on=f"holdfast resume {job_dir.path} goes on")


def provenance(job: Job, num_embedded: int) -> dict[str, str]:
    """What is the same in every run of the job, as strings: it stands inside the output."""
    return {
        "model_name": job.model.name,
        "model_digest": job.model.digest,
        "model": json.dumps(_model_provenance(job.model), sort_keys=True),
        "job_digest": job.digest,
        "inputs": json.dumps([{"name": file.name, "digest": file.digest} for file in job.inputs]),
        "options": json.dumps(asdict(job.options), sort_keys=True),
        "num_records": str(job.counts.num_records),
        "num_embedded": str(num_embedded),
        "num_quarantined": str(job.counts.num_records - num_embedded),
        "num_reused": str(job.reuse.num_vectors if job.reuse else 0),
    }


def _model_provenance(model: ModelSpec) -> dict[str, object]:
    """What makes its vectors what they are, beside its files."""
    return {
        "type": model.encoder.model_type,
        "revision": model.revision,
        "adapter": model.adapter.file if model.adapter else "",
        "rules": model.tokens.rules.name,
        "prompt": model.prompt.text if model.prompt else "",
        "behind_pooling": described_head(model),
    }


class ContentDigest:
    """Grows with the rows. One hash for each column: where a batch of rows ends must not be seen in it."""

    def __init__(self, columns: Sequence[str], *, ragged: bool) -> None:
        self._ids = xxhash.xxh3_128()
        self._vectors = {name: xxhash.xxh3_128() for name in columns}
        self._lengths = xxhash.xxh3_128() if ragged else None

    def update(self, rows: pa.RecordBatch) -> None:
        for record_id in rows.column("id").to_pylist():
            self._ids.update(f"{record_id}\n".encode())
        for name, vectors in self._vectors.items():
            vectors.update(as_matrix(rows.column(name)).data)
            if self._lengths is not None:
                self._lengths.update(num_vectors(rows.column(name)).data)

    def hexdigest(self) -> str:
        """xxh3-128, in hex."""
        parts = [self._ids, *self._vectors.values(), *([self._lengths] if self._lengths else [])]
        return xxhash.xxh3_128_hexdigest(b"".join(part.digest() for part in parts))


# ---- the sequences, for outputs that name vectors by them


def require_sequences(job: Job, job_dir: JobDir) -> None:
    """Raises UsageError where the shards were removed."""
    if not all(job_dir.shard(shard.index).is_file() for shard in job.shards):
        raise UsageError(
            f"{job_dir.path}: per-hash names vectors by their sequences, which holdfast clean has removed; "
            f"embed them again into another output: --reuse {job_dir.path} copies the vectors"
        )


def _shards(job: Job, job_dir: JobDir, *, reused: bool) -> RecordSequences:
    for shard in job.shards:
        if shard.reused == reused:
            records = read_shard(job_dir.shard(shard.index), shard)
            yield from zip(records.ordinals.tolist(), records.sequences, strict=True)


def _duplicates(job: Job, job_dir: JobDir) -> RecordSequences:
    for batch in read_duplicates(job, job_dir):
        yield from ((ordinal, None) for ordinal in batch.column("ordinal").to_pylist())
