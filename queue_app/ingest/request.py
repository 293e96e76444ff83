"""What a job may be asked for: each option is declared here once.

Those of the command line (cli/option_groups.py) and of the Python calls (api/options.py) are made of it.
Whatever this imports, `holdfast --help` waits for.
"""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from queue_app.choices import (
    Alphabet,
    Dtype,
    H5Layout,
    InputFormat,
    KernelChoice,
    LongRule,
    OptionGroup,
    Precision,
    RuleName,
    StoreDtype,
)
from queue_app.errors import UsageError

if TYPE_CHECKING:
    from queue_app.job.directory import JobDir
    from queue_app.job.spec import RunOptions


@dataclass(frozen=True, slots=True)
class Option:
    """How a field of a request is explained and written, and the least that it may be.

    `group`: the heading under which help shows it. `flags`: where there are others than the field's name.
    `is_argument`: it stands without one.
    """

    help: str
    _: KW_ONLY
    group: OptionGroup
    flags: tuple[str, ...] = ()
    metavar: str | None = None
    least: float | None = None
    is_argument: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedRequest:
    """What the user asked for; None and `auto` leave the choice to Holdfast. In the order of `--help`.

    Pool, layers, delimiter and columns to keep may be given as they are written; UsageError is raised for
    what is none.
    """

    inputs: Annotated[
        Sequence[Path],
        Option(
            "FASTA, FASTQ, CSV, TSV, JSON lines or plain lines, each also as .gz, .bz2, .xz or .zst; "
            "Parquet; Arrow. A directory, a quoted 'pattern*', or - for standard input.",
            metavar="INPUT",
            is_argument=True,
            group="Input",
        ),
    ]
    model: Annotated[
        str,
        Option(
            "A hub id, a short name such as esm2_t33_650M_UR50D, or a directory (config.json, "
            "*.safetensors). mock:DIM stands in for one.",
            flags=("--model", "-m"),
            metavar="MODEL",
            group="Model",
        ),
    ]
    output: Annotated[
        Path,
        Option(
            "out.h5, .npy, .npz, .parquet, .arrow or .feather, .safetensors, .h5ad, .lance, or a directory.",
            flags=("--output", "-o"),
            metavar="OUTPUT",
            group="Output",
        ),
    ]
    job_dir: Annotated[
        Path | None, Option("Where the job keeps what is done. Default: <output>.holdfast", group="Output")
    ] = None
    keep_checkpoints: Annotated[
        bool, Option("Keep the LMDB stores of done shards.", group="Crash safety")
    ] = False
    pool: Annotated[
        str | None,
        Option(
            "How the vectors of a sequence's tokens become one. Several as in mean,cls; none keeps those of "
            "all tokens; contacts: a map [L, L] of each protein, by an ESM-2. Default: the model's own.",
            metavar="mean|cls|max|last|mean_sqrt_len|weighted_mean|none|contacts",
            group="Vectors",
        ),
    ] = None
    layers: Annotated[
        tuple[int, ...],
        Option(
            "Layers whose vectors are taken, as in 6,-1: 0 is before the first one, -1 the last.",
            metavar="N,…",
            group="Vectors",
        ),
    ] = (-1,)
    prompt: Annotated[
        str | None,
        Option(
            "Text to put before every sequence. Default: the model's own; '--prompt=' for none.",
            group="Model",
        ),
    ] = None
    prompt_name: Annotated[
        str | None, Option("One of those that the model's directory names.", group="Model")
    ] = None
    truncate_dim: Annotated[
        int | None,
        Option("Keep so many numbers of each vector. Default: the model's own.", least=1, group="Vectors"),
    ] = None
    normalize: Annotated[
        bool | None, Option("Vectors of unit length. Default: the model's own.", group="Vectors")
    ] = None
    rules: Annotated[
        RuleName,
        Option(
            "How sequences are written for the model (blanks between residues, k-mers, …): auto, by its "
            f"vocabulary; plain, as they stand; or by name: {', '.join(get_args(RuleName)[1:-1])}.",
            metavar="RULE",
            group="Model",
        ),
    ] = "auto"
    revision: Annotated[
        str | None, Option("Branch, tag or commit of a hub model. Default: the newest.", group="Model")
    ] = None
    dtype: Annotated[
        Dtype | Literal["auto"],
        Option(
            "What it computes in. auto: bfloat16 on a GPU, float32 on the CPU. int8: on a CPU with VNNI or "
            "AMX, held against float32 on some of the records before it begins.",
            group="Model",
        ),
    ] = "auto"
    least_cosine: Annotated[
        float | None,
        Option(
            "With --dtype int8: the least cosine with float32 that these records must have for the job to "
            "begin. Default: 0.99.",
            least=0,
            group="Model",
        ),
    ] = None
    store_dtype: Annotated[StoreDtype, Option("Of the numbers on disk.", group="Vectors")] = "float32"
    toks_per_batch: Annotated[
        int | None, Option("Token budget of a batch. Default: by device.", least=1, group="Devices and speed")
    ] = None
    max_length: Annotated[
        int | None,
        Option(
            "Longest piece of a sequence, in tokens. Default: what the model was made for.",
            least=1,
            group="Model",
        ),
    ] = None
    long: Annotated[
        LongRule,
        Option(
            "Sequences over --max-length: overlapping windows (for contacts quarantine), cut off, or "
            "quarantine.",
            group="Model",
        ),
    ] = "window"
    num_shards: Annotated[
        int | None,
        Option(
            "Parts that the job is cut into. Default: at least 32, by cost.",
            least=1,
            group="Devices and speed",
        ),
    ] = None
    exact: Annotated[
        bool | None,
        Option(
            "A vector depends on sequence, model, dtype and kind of device only, not on what is computed "
            "beside it. Default: yes, where it costs under 3 %; there a worker that does not keep it is "
            "named, else it is refused.",
            group="Vectors",
        ),
    ] = None
    dedup: Annotated[bool, Option("Compute identical sequences once.", group="Vectors")] = True
    kernels: Annotated[
        KernelChoice,
        Option(
            "What a GPU computes with between matrix products: fused kernels of our own where Triton is "
            "there, or plain ones of torch's. The CPU has plain ones only.",
            group="Devices and speed",
        ),
    ] = "fused"
    reuse: Annotated[
        Path | None,
        Option(
            "Output or directory of an earlier job of the same model and options: vectors of sequences "
            "that it has are copied.",
            group="Vectors",
        ),
    ] = None
    commit_seconds: Annotated[
        float,
        Option(
            "Seconds between commits: a crash repeats at most so much work.", least=0.01, group="Crash safety"
        ),
    ] = 2.0
    commit_sequences: Annotated[
        int, Option("Commit earlier when so many are done.", least=1, group="Crash safety")
    ] = 10_000
    h5_layout: Annotated[
        H5Layout,
        Option(
            "Of an .h5: all vectors in one dataset, or a dataset for each record, named by its place "
            "(per-sequence: bio_embeddings), its id (protspace) or the hash of its sequence (biotrainer).",
            group="Output",
        ),
    ] = "flat"
    precision: Annotated[
        Precision,
        Option(
            "Of the vectors in the output, as sentence-transformers writes them: int8 and uint8 by the least "
            "and the most of each number, which are kept beside them; binary and ubinary one bit a number. "
            "float32: as they are stored.",
            group="Output",
        ),
    ] = "float32"
    allow_same_vectors: Annotated[
        bool, Option("Store them, where different sequences have one and the same vector.", group="Vectors")
    ] = False
    one_kind: Annotated[
        bool,
        Option(
            "Only workers of one kind (device, torch, dtype) compute the job: that of the first shard that "
            "is begun. Vectors of two kinds may differ in their last bits.",
            group="Fleet",
        ),
    ] = False
    priority: Annotated[
        int, Option("Of several jobs on a server the higher number goes first.", group="Fleet")
    ] = 0
    max_workers: Annotated[
        int | None,
        Option("At most so many workers of the server compute it at a time.", least=1, group="Fleet"),
    ] = None
    overwrite: Annotated[
        bool, Option("Forget earlier work on this output; replace whatever lies there.", group="Output")
    ] = False
    overwrite_changed: Annotated[
        bool,
        Option(
            "The same only where inputs, model or options are others than before; else go on.", group="Output"
        ),
    ] = False
    input_format: Annotated[
        InputFormat | None,
        Option(
            "Of all inputs. Default: FASTA, FASTQ, JSON, Parquet or Arrow by the first bytes, else by the "
            "name's ending.",
            group="Input",
        ),
    ] = None
    id_column: Annotated[
        str | None,
        Option(
            "Of a table: default id, accession, entry, name or the like, else records are numbered.",
            group="Input",
        ),
    ] = None
    sequence_column: Annotated[
        str | None,
        Option(
            "Of a table, or the key of JSON lines: default sequence, seq, text or the like; a table without "
            "one of them, or with two, is refused.",
            group="Input",
        ),
    ] = None
    id: Annotated[
        str | None,
        Option(
            "Of a header or an id: accession (P12345 of sp|P12345|…), full, or a regular expression, whose "
            "first group is taken. Default: the header up to the first blank.",
            metavar="accession|full|REGEX",
            group="Input",
        ),
    ] = None
    keep: Annotated[
        str | tuple[str, ...] | None,
        Option(
            "Columns of a table, or keys of JSON, that stay with the records in .parquet, .arrow and "
            "directories. Descriptions of headers do without it; none: nothing does.",
            metavar="COLUMNS|all|none",
            group="Input",
        ),
    ] = None
    delimiter: Annotated[
        str | None,
        Option("Between the fields of a CSV or TSV, such as ';' or tab, where it is another.", group="Input"),
    ] = None
    limit: Annotated[
        str | None,
        Option(
            "Raises what one input may ask of the reader: record (letters; those over it are quarantined), "
            "id, field (characters), values, nesting, expansion, window, files. Errors name the one that it "
            "takes.",
            metavar="NAME=N,…",
            group="Input",
        ),
    ] = None
    alphabet: Annotated[
        Alphabet | Literal["auto"],
        Option(
            "protein: the 20 letters and B J O U X Z; one closing * is dropped. dna, rna: IUPAC codes; "
            "U and T are one. In all three, lower case counts as upper case, and blanks are left out; "
            "any other letter, a * within, or a gap (- or .) sends the record to quarantine. "
            "text: as it stands. auto: the model's.",
            group="Input",
        ),
    ] = "auto"

    def __post_init__(self) -> None:
        from queue_app.ingest.readers.bounds.limit_option import parse_limits
        from queue_app.ingest.readers.columns import parse_delimiter
        from queue_app.ingest.readers.ids import parse_id
        from queue_app.ingest.readers.keep import parse_keep
        from queue_app.job.readouts import parse_layers, parse_pool

        parsers = {"pool": parse_pool, "layers": parse_layers, "delimiter": parse_delimiter, "id": parse_id}
        parsers |= {"limit": parse_limits}
        for name, parse in parsers.items():
            if isinstance(written := getattr(self, name), str):
                object.__setattr__(self, name, parse(written))
        if self.keep is not None:
            object.__setattr__(self, "keep", parse_keep(self.keep))

    @property
    def run(self) -> "RunOptions":
        """What of it says how to run, and changes no bit of the output."""
        from queue_app.job.spec import RunOptions

        return RunOptions(**self.asked_of(RunOptions), must_be_exact=bool(self.exact))

    def asked_of(self, kind: type) -> dict[str, Any]:
        """What was asked for of those fields that a dataclass has in common with this one."""
        return {each.name: getattr(self, each.name) for each in fields(kind) if each.name in DECLARED}

    @property
    def token_rules(self) -> RuleName:
        """How sequences are written for the model. What is said to be text is given as it stands."""
        return "plain" if self.rules == "auto" and self.alphabet == "text" else self.rules

    @property
    def directory(self) -> "JobDir":
        """The job directory: asked for, or `<output>.holdfast`.

        Raises UsageError for an output without a name.
        """
        from queue_app.job.directory import JobDir, default_directory

        if not self.output.name:
            raise UsageError(f"{self.output}: name an output in it, as in {self.output / 'out.h5'}")
        chosen = self.job_dir or default_directory(self.output)
        return JobDir(chosen.absolute())


DECLARED = {field.name: field for field in fields(EmbedRequest)}
"""Every option, by its name in Python."""
