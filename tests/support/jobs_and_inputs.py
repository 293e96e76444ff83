"""Jobs and inputs for the tests."""

import json
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from checkpoint.records import DoneRecord, QuarantineEntry
from queue_app.job.directory import JOB_SCHEMA, PLANNER_VERSION, JobDir
from queue_app.job.done_records import create, current_generation, reopen
from queue_app.job.output_names import card_paths
from queue_app.job.output_place import CARD_SCHEMA
from queue_app.job.result_files import EMBEDDING, embedding_columns, result_rows, write_result
from queue_app.job.shard_table import Shard, ShardTable
from queue_app.job.spec import DatasetCounts, EmbedOptions, InputFile, Job, RunOptions
from queue_app.model.reader import find_model

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
TEXTS = ["alpha-hemolysin", "co-chaperonin GroEL"]
"""Those of the documentation."""


def make_job(*, num_shards: int, records_per_shard: int, job_id: str = "0123456789ab-cafecafe") -> Job:
    """A job as job.json would hold it, of the mock model with 8 dimensions."""
    num_records = num_shards * records_per_shard
    return Job(
        schema_version=JOB_SCHEMA,
        planner_version=PLANNER_VERSION,
        job_id=job_id,
        digest="ab" * 16,
        output="/jobs/a.npy",
        inputs=(InputFile("a.fasta", "/data/a.fasta", 100, "cd" * 16),),
        model=find_model("mock:8").spec,
        options=EmbedOptions(
            pool="mean",
            dtype="float32",
            store_dtype="float32",
            alphabet="protein",
            long="window",
            max_length=1022,
            window_overlap=127,
            toks_per_batch=2048,
            device_class="cpu",
        ),
        threads=1,
        run=RunOptions(),
        counts=DatasetCounts(num_records, 0, 0, 0),
        shards=ShardTable.of(
            job_id,
            (
                Shard(job_id, index, records_per_shard, 1000, index * records_per_shard, "00" * 16)
                for index in range(num_shards)
            ),
        ),
    )


def mark_exported(output: Path, job_id: str) -> None:
    """What tells that this job has written its output there."""
    card = {"schema": CARD_SCHEMA, "job": job_id, "job_digest": "ab" * 16, "output": {}}
    card_paths(output)[1].write_text(json.dumps(card))


def publish(
    job: Job, job_dir: JobDir, *, quarantined: Collection[int] = (), num_vectors: int | None = None
) -> None:
    """Every shard's result and done file, as workers leave them; the vector of ordinal n is all n.

    With `num_vectors` rows are ragged, and each has so many of it.
    """
    job_dir.results.mkdir(parents=True)
    (job_dir.path / "done").mkdir()
    job_dir.write(job)
    dtype = job.options.store_dtype
    for shard in job.shards:
        run = range(shard.first_ordinal, shard.first_ordinal + shard.num_records)
        good = np.array([ordinal for ordinal in run if ordinal not in quarantined], np.uint64)
        vectors = np.repeat(good, num_vectors or 1)[:, None].repeat(job.model.dim, axis=1).astype(dtype)
        offsets = None if num_vectors is None else np.arange(len(good) + 1, dtype=np.uint64) * num_vectors
        digest = publish_vectors(job_dir.result(shard.index, 1), vectors, offsets, ordinals=good)
        entries = [
            QuarantineEntry(each, f"p{each}", 7, "empty\tsequence") for each in run if each in quarantined
        ]
        name = job_dir.result(shard.index, 1).name
        done = DoneRecord(name, digest, shard.num_records, len(good), tuple(entries), job=job.job_id)
        job_dir.done(shard.index).write_bytes(done.encode())


def publish_anew(job: Job, job_dir: JobDir, index: int, value: float) -> None:
    """Reopen a shard and publish it with these numbers, as another host might have computed them."""
    shard = job.shards[index]
    reopen(job_dir, shard, current_generation(job_dir, shard))
    ordinals = np.arange(shard.first_ordinal, shard.first_ordinal + shard.num_records, dtype=np.uint64)
    vectors = np.full((shard.num_records, 8), value, np.float32)
    path = job_dir.result(index, 2)
    digest = publish_vectors(path, vectors, ordinals=ordinals)
    count = shard.num_records
    create(job_dir, shard, DoneRecord(path.name, digest, count, count, job=job.job_id, generation=1))


def publish_vectors(
    path: Path,
    embeddings: np.ndarray,
    offsets: np.ndarray | None = None,
    *,
    ordinals: np.ndarray | None = None,
    names: Sequence[str] = (EMBEDDING,),
) -> str:
    """A result of records named p0, p1, … by their ordinals; answers its digest."""
    if ordinals is None:
        ordinals = np.arange(len(embeddings) if offsets is None else len(offsets) - 1, dtype=np.uint64)
    ids = [f"p{ordinal}" for ordinal in ordinals]
    rows = result_rows(ids, ordinals, embedding_columns(embeddings, offsets, names))
    return write_result(path, rows.schema, [rows])


def protein(number: int) -> str:
    """A protein-like sequence of 20 to 120 residues, different for every number."""
    state, letters = number * 2654435761 % 2**32 + 1, []
    for _ in range(20 + number * 37 % 101):
        state = state * 1103515245 + 12345 & 0x7FFFFFFF
        letters.append(RESIDUES[(state >> 16) % len(RESIDUES)])
    return "".join(letters)


def write_fasta(path: Path, num_records: int) -> Path:
    """`num_records` different proteins named p0, p1, …"""
    path.write_text(
        "".join(f">p{number} protein {number}\n{protein(number)}\n" for number in range(num_records))
    )
    return path
