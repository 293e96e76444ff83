"""The job: what was asked for, fixed at submit, kept in job.json. Immutable once written."""

from dataclasses import dataclass, field

from queue_app.choices import (
    Alphabet,
    DeviceClass,
    Dtype,
    H5Layout,
    InputFormat,
    KernelChoice,
    LongRule,
    Precision,
    StoreDtype,
)
from queue_app.job.shard_table import ShardTable
from queue_app.model.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class ReadAs:
    """How an input was read. Of a table its columns; without one of ids, numbers are its records' ids."""

    format: InputFormat
    sequence_column: str | None = None
    id_column: str | None = None


@dataclass(frozen=True, slots=True)
class InputFile:
    """One input as it was read: `digest` is the xxh3-128 (hex) of the raw bytes, compressed or not."""

    name: str
    path: str
    size_bytes: int
    digest: str
    read_as: ReadAs | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class EmbedOptions:
    """Every option that can change a bit of the output.

    `pool` is one or several pools of a model specification, joined by commas, or `none`, which keeps the
    vector of every token. `layers` count from 0, the embeddings before the first layer.
    """

    pool: str
    dtype: Dtype
    store_dtype: StoreDtype
    alphabet: Alphabet
    long: LongRule
    max_length: int
    window_overlap: int
    toks_per_batch: int
    device_class: DeviceClass
    id_column: str | None = None
    sequence_column: str | None = None
    delimiter: str | None = None
    layers: tuple[int, ...] = (-1,)
    dedup: bool = True
    """Compute identical sequences once. It changes last bits, as other batches come of it."""
    input_format: InputFormat | None = None
    id: str | None = None
    """What an id is made of; None: the first word of a header, or what stands in the column."""
    keep: tuple[str, ...] | None = None
    """Columns that stay with the records, or `all` or `none`; None: descriptions of headers."""
    limit: str | None = None
    """What was raised of the limits of the reader: with a higher one fewer records are quarantined."""
    kernels: KernelChoice = "fused"
    """What a CUDA device computes with between the matrix products; a worker that has none fused says so."""
    exact: bool = False
    """A vector depends on sequence, model, dtype and kind of device only. It changes last bits, as
    batches have other shapes."""


@dataclass(frozen=True, slots=True)
class TwinsFile:
    """What twins.arrow holds: records whose sequence an earlier one has, and `num_firsts` of these."""

    digest: str  # xxh3-128 (hex)
    num_twins: int
    num_firsts: int


@dataclass(frozen=True, slots=True)
class KeptFile:
    """What kept.parquet holds: descriptions of headers and columns of tables, a row for each record."""

    digest: str  # xxh3-128 (hex)
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reuse:
    """Whose vectors were copied, and how many; `digest` is of that job and its results."""

    path: str
    job_id: str
    digest: str
    num_vectors: int


@dataclass(frozen=True, slots=True)
class DatasetCounts:
    """What the one pass over the inputs counted."""

    num_records: int
    num_rejected: int
    num_duplicate_ids: int
    num_duplicate_sequences: int


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How to run, as asked for at submit; none of it changes a bit of the output."""

    commit_seconds: float = 2.0
    commit_sequences: int = 10_000
    keep_checkpoints: bool = False
    h5_layout: H5Layout = "flat"
    precision: Precision = "float32"
    """How an output writes what is computed and stored; float32 as it is stored."""
    allow_same_vectors: bool = False
    """Different sequences may have one and the same vector."""
    must_be_exact: bool = False
    """It was asked for: a worker where a vector depends on its company is refused, and not only named."""
    one_kind: bool = False
    """Only workers of the kind of device that begins the first shard compute the job."""
    priority: int = 0
    """Of two jobs the higher one is dealt first."""
    least_cosine: float | None = None
    """In int8: below it, on some of its records, the job does not begin; None: certificate.LEAST_COSINE."""
    max_workers: int | None = None
    """So many workers at most have a shard of it at a time; None: as many as there are."""


@dataclass(frozen=True, slots=True)
class Job:
    """All of job.json; of the shards it has the number and the digest, and they stand in shards.table."""

    schema_version: int
    planner_version: int
    job_id: str
    digest: str  # xxh3-128 (hex) over inputs, model and options: equal digests, equal output
    output: str
    inputs: tuple[InputFile, ...]
    model: ModelSpec
    options: EmbedOptions
    threads: int
    run: RunOptions
    counts: DatasetCounts
    shards: ShardTable
    sequences_digest: str = ""  # xxh3-128 (hex) of sequences.arrow
    twins: TwinsFile | None = None  # None: every sequence is there once
    reuse: Reuse | None = None
    notes: tuple[str, ...] = ()
    """What was noticed about the records at submit: a line each."""
    kept: KeptFile | None = None  # None: nothing stays with the records but their ids


RECORD_COST = 8
"""In characters: what a record costs beside its length."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What of a shard is committed, in absolute numbers: reporting it twice counts it once.

    `share`, from 0 to 1, is that of its batches: they are about equal in tokens.
    """

    batches_done: int = 0
    sequences_done: int = 0
    quarantined: int = 0
    share: float = 0.0
