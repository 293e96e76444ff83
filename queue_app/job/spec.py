"""The job: what was asked for, fixed at submit, kept in job.json. Immutable once written."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from queue_app.errors import Damage, JobNotFound, OtherVersion
from queue_app.host.durable_files import write_durably
from queue_app.model.spec import Alphabet, ModelSpec

Dtype = Literal["float32", "bfloat16", "float16"]
StoreDtype = Literal["float32", "float16"]
LongRule = Literal["window", "truncate", "error"]
InputFormat = Literal["fasta", "fastq", "csv", "tsv", "jsonl", "lines", "parquet", "arrow"]
DeviceClass = Literal["cpu", "cuda"]
H5Layout = Literal["flat", "per-sequence", "per-id", "per-hash"]

JOB_SCHEMA = 3
PLANNER_VERSION = 3
INCOMING = "incoming"


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


@dataclass(frozen=True, slots=True)
class Shard:
    """A contiguous run of the records that are computed, or of those whose vectors are reused.

    It answers for `num_records` of the input: its rows, and `num_twins` that have the sequence of one of
    them. `num_tokens` is an estimate made without the tokenizer.
    """

    job_id: str
    index: int
    num_records: int
    num_tokens: int
    first_ordinal: int
    digest: str  # xxh3-128 (hex) of shards/<index>.arrow
    num_twins: int = 0
    reused: bool = False  # done from the start, with vectors of another job

    @property
    def num_rows(self) -> int:
        return self.num_records - self.num_twins


@dataclass(frozen=True, slots=True)
class TwinsFile:
    """What twins.arrow holds: records whose sequence an earlier one has, and `num_firsts` of these."""

    digest: str  # xxh3-128 (hex)
    num_twins: int
    num_firsts: int


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
    allow_same_vectors: bool = False
    """Different sequences may have one and the same vector."""


@dataclass(frozen=True, slots=True)
class Job:
    """All of job.json."""

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
    shards: tuple[Shard, ...]
    sequences_digest: str = ""  # xxh3-128 (hex) of sequences.arrow
    twins: TwinsFile | None = None  # None: every sequence is there once
    reuse: Reuse | None = None
    notes: tuple[str, ...] = ()
    """What was noticed about the records at submit: a line each."""


@dataclass(frozen=True, slots=True)
class _Versions:
    """The part of job.json that every version can read."""

    schema_version: int
    planner_version: int

    def __str__(self) -> str:
        return f"planner {self.planner_version}, job schema {self.schema_version}"


_JOB = TypeAdapter(Job)
_VERSIONS = TypeAdapter(_Versions)


@dataclass(frozen=True, slots=True)
class JobDir:
    """Where everything of a job lies. Mostly names: only `load`, `write` and `hold` touch the disk."""

    path: Path

    @property
    def job_json(self) -> Path:
        return self.path / "job.json"

    @property
    def incoming(self) -> "JobDir":
        """What a producer is about to put in the place of this one. With a job.json it is complete."""
        return JobDir(self.path / INCOMING)

    @property
    def place(self) -> Path:
        """Where the job was run last, and where its output was to go then."""
        return self.path / "place.json"

    @property
    def claims(self) -> Path:
        """Outputs that the job is about to write, or may replace."""
        return self.path / "claims.json"

    @property
    def tokenizer(self) -> Path:
        """The model's tokenizer as it was made at submit, where the model has one."""
        return self.path / "tokenizer.json"

    @property
    def server_json(self) -> Path:
        return self.path / "server.json"

    @property
    def model_place(self) -> Path:
        """Where the model lies now, when that is not where job.json says it was (model_place.py)."""
        return self.path / "model_path.json"

    @property
    def held(self) -> Path:
        """There while the job is paused or cancelled: nobody may start it again by himself."""
        return self.path / "held"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def piped(self) -> Path:
        """What came through pipes, while it is read."""
        return self.path / "piped"

    @property
    def results(self) -> Path:
        return self.path / "results"

    @property
    def history(self) -> Path:
        return self.path / "history"

    @property
    def shards(self) -> Path:
        return self.path / "shards"

    @property
    def sequences(self) -> Path:
        """Ordinal and content hash of every row of every shard: what a later job finds vectors by."""
        return self.path / "sequences.arrow"

    @property
    def twins(self) -> Path:
        return self.path / "twins.arrow"

    @property
    def aside(self) -> Path:
        """The vectors that twins wait for while an output is written."""
        return self.path / ".aside.arrow"

    @property
    def array(self) -> Path:
        """The vectors as one array, where somebody asked for them and the output is no .npy."""
        return self.path / "array"

    def shard(self, index: int) -> Path:
        return self.shards / f"{index:05d}.arrow"

    def result(self, index: int, token: int) -> Path:
        return self.results / f"{index:05d}-{token}.parquet"

    @property
    def dones(self) -> Path:
        return self.path / "done"

    def done(self, index: int) -> Path:
        return self.dones / f"{index:05d}.json"

    def checkpoint(self, index: int, job_id: str, scratch: Path | None) -> Path:
        """The shard's LMDB environment; under `scratch` it needs the job's id to be unique."""
        home = self.path / "checkpoints" if scratch is None else scratch / job_id
        return home / f"{index:05d}.lmdb"

    def hold(self, state: Literal["paused", "cancelled"]) -> None:
        """Note that the job is to rest, where this host can see its directory."""
        if self.path.is_dir():
            self.held.write_text(state)

    def load(self) -> Job:
        """Read job.json.

        Raises:
            JobNotFound: there is none, so nothing was submitted here.
            Damage: the file is not what `write` wrote.
            OtherVersion: it was planned by another version, whose batches this one would cut differently.
        """
        try:
            content = self.job_json.read_bytes()
            theirs, ours = _VERSIONS.validate_json(content), _Versions(JOB_SCHEMA, PLANNER_VERSION)
            if theirs != ours:
                raise OtherVersion(
                    f"{self.path}: planned by another version of Holdfast ({theirs}; this one: {ours}); run "
                    "that one, or use --overwrite"
                )
            return _JOB.validate_json(content)
        except (FileNotFoundError, NotADirectoryError):
            raise JobNotFound(f"{self.path}: no job here (no job.json)") from None
        except ValidationError as error:
            raise Damage(f"{self.job_json}: not a readable job: {error.errors()[0]['msg']}") from None

    def write(self, job: Job) -> None:
        """Write job.json, durably and at once: a reader sees all of it or none."""
        write_durably(self.job_json, _JOB.dump_json(job, indent=1))
