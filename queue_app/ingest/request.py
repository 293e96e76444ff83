"""What a job may be asked for: each option is declared here once.

Those of the command line (cli/option_groups.py) and of the Python calls (api/options.py) are made of it.
Whatever this imports, `holdfast --help` waits for.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from queue_app.choices import Alphabet, Dtype, H5Layout, InputFormat, LongRule, RuleName, StoreDtype
from queue_app.errors import UsageError

if TYPE_CHECKING:
    from queue_app.job.directory import JobDir
    from queue_app.job.spec import RunOptions


class Option(NamedTuple):
    """How a field of a request is explained and written, and the least that it may be.

    `flags`: where they are others than the field's name. `is_argument`: it stands without one.
    """

    help: str
    flags: tuple[str, ...] = ()
    metavar: str | None = None
    least: float | None = None
    is_argument: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedRequest:
    """What the user asked for; None and `auto` leave the choice to Holdfast. In the order of `--help`.

    Pool, layers and delimiter may be given as they are written; UsageError is raised for what is none.
    """

    inputs: Annotated[
        Sequence[Path],
        Option(
            "FASTA, FASTQ, CSV, TSV, JSON lines or plain lines, each also as .gz, .bz2, .xz or .zst; "
            "Parquet; Arrow. A directory, a quoted 'pattern*', or - for standard input.",
            is_argument=True,
        ),
    ]
    model: Annotated[
        str, Option("A directory (config.json, *.safetensors), a hub id, or mock:DIM.", ("--model", "-m"))
    ]
    output: Annotated[
        Path,
        Option("out.h5, out.npy, out.parquet, out.arrow or .feather, or a directory.", ("--output", "-o")),
    ]
    job_dir: Annotated[Path | None, Option("Default: <output>.holdfast")] = None
    keep_checkpoints: Annotated[bool, Option("Keep the LMDB stores of done shards.")] = False
    pool: Annotated[
        str | None,
        Option(
            "Several as in mean,cls; none keeps every token's vector. Default: the model's own pooling.",
            metavar="mean|cls|max|last|mean_sqrt_len|weighted_mean|none",
        ),
    ] = None
    layers: Annotated[
        tuple[int, ...],
        Option("Several as in 6,-1. 0 is before the first layer, -1 the last one.", ("--layer",)),
    ] = (-1,)
    prompt: Annotated[
        str | None,
        Option("Text to put before every sequence. Default: the model's own; '--prompt=' for none."),
    ] = None
    prompt_name: Annotated[str | None, Option("One of those that the model's directory names.")] = None
    truncate_dim: Annotated[
        int | None, Option("Keep so many numbers of each vector. Default: the model's own.", least=1)
    ] = None
    normalize: Annotated[bool | None, Option("Vectors of unit length. Default: the model's own.")] = None
    rules: Annotated[
        RuleName,
        Option(
            "How sequences are written for the model: blanks between residues, k-mers, … auto: by its "
            "vocabulary; plain: as they stand."
        ),
    ] = "auto"
    revision: Annotated[str | None, Option("Branch, tag or commit of a hub model. Default: the newest.")] = (
        None
    )
    dtype: Annotated[Dtype | Literal["auto"], Option("auto: bfloat16 on a GPU, float32 on the CPU.")] = "auto"
    store_dtype: Annotated[StoreDtype, Option("Of the vectors on disk.")] = "float32"
    toks_per_batch: Annotated[int | None, Option("Token budget of a batch. Default: by device.", least=1)] = (
        None
    )
    max_length: Annotated[
        int | None,
        Option("Longest piece of a sequence, in tokens. Default: what the model was made for.", least=1),
    ] = None
    long: Annotated[
        LongRule, Option("Sequences over --max-length: overlapping windows, cut off, or quarantine.")
    ] = "window"
    num_shards: Annotated[int | None, Option("Default: at least 32, by cost.", ("--shards",), least=1)] = None
    dedup: Annotated[bool, Option("Compute identical sequences one by one.", ("--no-dedup",))] = True
    reuse: Annotated[
        Path | None,
        Option(
            "Output or directory of an earlier job of the same model and options: vectors of sequences "
            "that it has are copied."
        ),
    ] = None
    commit_seconds: Annotated[float, Option("A crash repeats at most so much work.", least=0.01)] = 2.0
    commit_sequences: Annotated[int, Option("Commit earlier when so many are done.", least=1)] = 10_000
    h5_layout: Annotated[
        H5Layout,
        Option(
            "Of an .h5: all vectors in one dataset, or a dataset for each record, named by its place "
            "(per-sequence: bio_embeddings), its id (protspace) or the hash of its sequence (biotrainer)."
        ),
    ] = "flat"
    allow_same_vectors: Annotated[
        bool, Option("Store them, where different sequences have one and the same vector.")
    ] = False
    one_kind: Annotated[
        bool,
        Option(
            "Only workers of one kind (device, torch, dtype) compute the job: that of the first shard that "
            "is begun. Vectors of two kinds may differ in their last bits."
        ),
    ] = False
    priority: Annotated[int, Option("Of several jobs on a server the higher number goes first.")] = 0
    max_workers: Annotated[
        int | None, Option("At most so many workers of the server compute it at a time.", least=1)
    ] = None
    overwrite: Annotated[bool, Option("Forget earlier work on this output; replace whatever lies there.")] = (
        False
    )
    overwrite_changed: Annotated[
        bool, Option("The same only where inputs, model or options are others than before; else go on.")
    ] = False
    input_format: Annotated[
        InputFormat | None,
        Option(
            "Of all inputs. Default: FASTA, FASTQ, JSON, Parquet or Arrow by the first bytes, else by the "
            "name's ending."
        ),
    ] = None
    id_column: Annotated[
        str | None,
        Option("Of a table: default id, accession, entry, name or the like, else records are numbered."),
    ] = None
    sequence_column: Annotated[
        str | None,
        Option(
            "Of a table, or the key of JSON lines: default sequence, seq, text or the like; a table without "
            "one of them, or with two, is refused."
        ),
    ] = None
    delimiter: Annotated[
        str | None, Option("Between the fields of a CSV or TSV, such as ';' or tab, where it is another.")
    ] = None
    alphabet: Annotated[
        Alphabet | Literal["auto"],
        Option(
            "protein: the 20 letters and B J O U X Z; one closing * is dropped. dna, rna: IUPAC codes; "
            "U and T are one. In all three, lower case counts as upper case, and blanks are left out; "
            "any other letter, a * within, or a gap (- or .) sends the record to quarantine. "
            "text: as it stands. auto: the model's."
        ),
    ] = "auto"

    def __post_init__(self) -> None:
        from queue_app.ingest.readers.columns import parse_delimiter
        from queue_app.job.readouts import parse_layers, parse_pool

        parsers = {"pool": parse_pool, "layers": parse_layers, "delimiter": parse_delimiter}
        for name, parse in parsers.items():
            if isinstance(written := getattr(self, name), str):
                object.__setattr__(self, name, parse(written))

    @property
    def run(self) -> "RunOptions":
        """What of it says how to run, and changes no bit of the output."""
        from queue_app.job.spec import RunOptions

        return RunOptions(**self.asked_of(RunOptions))

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
