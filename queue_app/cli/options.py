"""The options that several commands share, as types, and what they say taken together.

As cli.py, this is imported for every `holdfast --help`: everything heavy is imported inside the functions.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from queue_app.errors import UsageError
from queue_app.job.allowance import ANY, OPTION

if TYPE_CHECKING:
    from queue_app.settings import RuntimeConfig


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(version("holdfast"))
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
]
Inputs = Annotated[
    list[Path],
    typer.Argument(
        help="FASTA, FASTQ, CSV, TSV, JSON lines or plain lines, each also as .gz, .bz2, .xz or .zst; "
        "Parquet; Arrow. A directory, a quoted 'pattern*', or - for standard input."
    ),
]
InputFormat = Annotated[
    Literal["fasta", "fastq", "csv", "tsv", "jsonl", "lines", "parquet", "arrow"] | None,
    typer.Option(
        help="Of all inputs. Default: FASTA, FASTQ, JSON, Parquet or Arrow by the first bytes, else by the "
        "name's ending."
    ),
]
Model = Annotated[
    str,
    typer.Option("--model", "-m", help="A directory (config.json, *.safetensors), a hub id, or mock:DIM."),
]
Output = Annotated[
    Path,
    typer.Option(
        "--output", "-o", help="out.h5, out.npy, out.parquet, out.arrow or .feather, or a directory."
    ),
]
ResumedOutput = Annotated[
    Path | None, typer.Option("--output", "-o", help="Default: the one named, or that of the job directory.")
]
JobDir = Annotated[Path | None, typer.Option(help="Default: <output>.holdfast")]
Pool = Annotated[
    str | None,
    typer.Option(
        metavar="mean|cls|max|last|mean_sqrt_len|weighted_mean|none",
        help="Several as in mean,cls; none keeps every token's vector. Default: the model's own pooling.",
    ),
]
Prompt = Annotated[
    str | None,
    typer.Option(help="Text to put before every sequence. Default: the model's own; '--prompt=' for none."),
]
PromptName = Annotated[str | None, typer.Option(help="One of those that the model's directory names.")]
TruncateDim = Annotated[
    int | None, typer.Option(min=1, help="Keep so many numbers of each vector. Default: the model's own.")
]
Normalize = Annotated[
    bool | None,
    typer.Option("--normalize/--no-normalize", help="Vectors of unit length. Default: the model's own."),
]
_RuleName = Literal[
    "auto", "saprot", "prostt5", "prott5", "ankh", "protbert", "antiberta2", "letters", "codons",
    "kmers2", "kmers3", "kmers4", "kmers5", "kmers6", "kmers7", "kmers8", "bases", "plain",
]  # fmt: skip
Rules = Annotated[
    _RuleName,
    typer.Option(
        help="How sequences are written for the model: blanks between residues, k-mers, … auto: by its "
        "vocabulary; plain: as they stand."
    ),
]
Revision = Annotated[
    str | None, typer.Option(help="Branch, tag or commit of a hub model. Default: the newest.")
]
Layer = Annotated[str, typer.Option(help="Several as in 6,-1. 0 is before the first layer, -1 the last one.")]
H5Layout = Annotated[
    Literal["flat", "per-sequence", "per-id", "per-hash"],
    typer.Option(
        help="Of an .h5: all vectors in one dataset, or a dataset for each record, named by its place "
        "(per-sequence: bio_embeddings), its id (protspace) or the hash of its sequence (biotrainer)."
    ),
]
Dtype = Annotated[
    Literal["auto", "float32", "bfloat16", "float16"],
    typer.Option(help="auto: bfloat16 on a GPU, float32 on the CPU."),
]
StoreDtype = Annotated[Literal["float32", "float16"], typer.Option(help="Of the vectors on disk.")]
ToksPerBatch = Annotated[int | None, typer.Option(min=1, help="Token budget of a batch. Default: by device.")]
MaxLength = Annotated[
    int | None,
    typer.Option(min=1, help="Longest piece of a sequence, in tokens. Default: what the model was made for."),
]
Long = Annotated[
    Literal["window", "truncate", "error"],
    typer.Option(help="Sequences over --max-length: overlapping windows, cut off, or quarantine."),
]
Shards = Annotated[int | None, typer.Option(min=1, help="Default: at least 32, by cost.")]
NoDedup = Annotated[bool, typer.Option("--no-dedup", help="Compute identical sequences one by one.")]
Reuse = Annotated[
    Path | None,
    typer.Option(
        help="Output or directory of an earlier job of the same model and options: vectors of sequences "
        "that it has are copied."
    ),
]
CommitSeconds = Annotated[float, typer.Option(min=0.01, help="A crash repeats at most so much work.")]
CommitSequences = Annotated[int, typer.Option(min=1, help="Commit earlier when so many are done.")]
KeepCheckpoints = Annotated[
    bool, typer.Option("--keep-checkpoints", help="Keep the LMDB stores of done shards.")
]
AllowSameVectors = Annotated[
    bool,
    typer.Option(
        "--allow-same-vectors", help="Store them, where different sequences have one and the same vector."
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Forget earlier work on this output; replace whatever lies there.")
]
Replace = Annotated[bool, typer.Option("--overwrite", help="Replace whatever lies there.")]
IdColumn = Annotated[
    str | None,
    typer.Option(
        help="Of a table: default id, accession, entry, name or the like, else records are numbered."
    ),
]
SequenceColumn = Annotated[
    str | None,
    typer.Option(
        help="Of a table, or the key of JSON lines: default sequence, seq, text or the like; a table without "
        "one of them, or with two, is refused."
    ),
]
Delimiter = Annotated[
    str | None,
    typer.Option(help="Between the fields of a CSV or TSV, such as ';' or tab, where it is another."),
]
Alphabet = Annotated[
    Literal["auto", "protein", "dna", "rna", "text"],
    typer.Option(
        help="protein: the 20 letters and B J O U X Z; one closing * is dropped. dna, rna: IUPAC codes; "
        "U and T are one. In all three, lower case counts as upper case, and blanks are left out; "
        "any other letter, a * within, or a gap (- or .) sends the record to quarantine. "
        "text: as it stands. auto: the model's."
    ),
]
Workers = Annotated[int | None, typer.Option(min=1, help="CPU workers. Default: by model size.")]
Device = Annotated[str, typer.Option(help="auto, cpu, or GPU numbers such as 0,1.")]
Broker = Annotated[
    str | None, typer.Option(help="redis://… of your own server. Default: HOLDFAST_BROKER_URL.")
]
MetricsPort = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=65535,
        help="Serve Prometheus metrics: the worker of gpuN or cpuN at this port plus N. Default: "
        "HOLDFAST_METRICS_PORT, else not at all.",
    ),
]
MetricsAddress = Annotated[
    str | None,
    typer.Option(help="Where metrics are served. Default: HOLDFAST_METRICS_ADDRESS, else 127.0.0.1."),
]
Metadata = Annotated[
    Path | None,
    typer.Option(
        help="CSV or TSV with an id column (id, accession, name or the like, else the first): the map of a "
        "finished job can be coloured by its other columns."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Watch = Annotated[
    bool, typer.Option("--watch", help="Show it until it ends, or Ctrl-C; the job goes on either way.")
]
AllowQuarantine = Annotated[
    str | None,
    typer.Option(
        "--allow-quarantine",
        metavar="[=N|P%]",
        help="End with 0 also when records were set aside: any number of them, or at most N, or P% of all "
        "(=0.1%). Beyond that with 3, as without it.",
    ),
]
JobArgument = Annotated[str, typer.Argument(help="Job id, job directory, or output.")]
MovedModel = Annotated[
    str | None,
    typer.Option("--model", "-m", help="Where the job's model lies now. It must be the same one."),
]
JobDirArgument = Annotated[Path, typer.Argument(help="The job directory, or the output it belongs to.")]


def with_dashes(arguments: Sequence[str]) -> list[str]:
    """`--store_dtype` means `--store-dtype`; values keep their underscores. `--allow-quarantine` alone, as no
    other option, has a value all the same."""
    flags = [_with_dashes(argument) if argument.startswith("--") else argument for argument in arguments]
    return [f"{flag}={ANY}" if flag == OPTION else flag for flag in flags]


def _with_dashes(argument: str) -> str:
    flag, equals, value = argument.partition("=")
    return flag.replace("_", "-") + equals + value


def config_with_metrics(port: int | None, address: str | None) -> "RuntimeConfig":
    """The settings; what the command says of metrics comes before the environment."""
    from queue_app.settings import runtime_config

    said = {"metrics_port": port, "metrics_address": address}
    config = runtime_config().model_copy(
        update={name: value for name, value in said.items() if value is not None}
    )
    if address is not None and config.metrics_port is None:
        raise UsageError(f"--metrics-address {address}: without --metrics-port nothing is served there")
    return config


def named_broker(broker: str | None) -> str | None:
    """The user's own server, where --broker or HOLDFAST_BROKER_URL names one; else None."""
    from queue_app.coordination.redis_client import own_broker

    return own_broker(broker)
