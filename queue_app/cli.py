"""The command line: parsing and printing only. What a command does lives in the module it calls.

Everything heavy is imported inside the commands: `holdfast --help` must be there at once.
"""

import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from queue_app.errors import HoldfastError, UsageError

if TYPE_CHECKING:
    import redis

    from queue_app.export import ExportReport
    from queue_app.request import EmbedRequest

QUARANTINED = 3
INTERRUPTED = 130

app = typer.Typer(
    name="holdfast",
    help="Crash-safe batch embedding inference. A job that was killed goes on where it was: run it again.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Inputs = Annotated[
    list[Path], typer.Argument(help="FASTA, CSV, TSV, JSON lines or plain lines; each also .gz.")
]
Model = Annotated[
    str,
    typer.Option("--model", "-m", help="A directory (config.json, *.safetensors), a hub id, or mock:DIM."),
]
Output = Annotated[Path, typer.Option("--output", "-o", help="out.h5, out.npy, out.parquet, or a directory.")]
JobDirOption = Annotated[Path | None, typer.Option(help="Default: <output>.holdfast")]
PoolOption = Annotated[
    Literal["mean", "cls", "max", "last"] | None, typer.Option(help="Default: the model's own pooling.")
]
DtypeOption = Annotated[
    Literal["auto", "float32", "bfloat16", "float16"],
    typer.Option(help="auto: bfloat16 on a GPU, float32 on the CPU."),
]
StoreDtypeOption = Annotated[Literal["float32", "float16"], typer.Option(help="Of the vectors on disk.")]
ToksOption = Annotated[int | None, typer.Option(min=1, help="Token budget of a batch. Default: by device.")]
MaxLengthOption = Annotated[int | None, typer.Option(min=1, help="Longest piece of a sequence, in tokens.")]
LongOption = Annotated[
    Literal["window", "truncate", "error"],
    typer.Option(help="Sequences over --max-length: mean of overlapping windows, cut off, or quarantine."),
]
ShardsOption = Annotated[int | None, typer.Option(min=1, help="Default: at least 32, by cost.")]
CommitSecondsOption = Annotated[float, typer.Option(min=0.01, help="A crash repeats at most so much work.")]
CommitSequencesOption = Annotated[int, typer.Option(min=1, help="Commit earlier when so many are done.")]
KeepOption = Annotated[bool, typer.Option("--keep-checkpoints", help="Keep the LMDB stores of done shards.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Forget earlier work on this output.")]
IdColumnOption = Annotated[str | None, typer.Option(help="CSV, TSV, JSON: default id, name, or the first.")]
SequenceColumnOption = Annotated[
    str | None, typer.Option(help="CSV, TSV, JSON: default sequence, seq, text, or the second.")
]
AlphabetOption = Annotated[
    Literal["auto", "protein", "dna", "text"],
    typer.Option(
        help="protein: the 20 letters and B X Z U O J, in either case, one closing * dropped. "
        "dna: IUPAC codes. Other letters send a record to quarantine."
    ),
]
BrokerOption = Annotated[
    str | None, typer.Option(help="redis://… of your own server. Default: HOLDFAST_BROKER_URL.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
JobArgument = Annotated[str, typer.Argument(help="Job id, job directory, or output.")]
JobDirArgument = Annotated[Path, typer.Argument(help="The job directory, or the output it belongs to.")]


@app.command()
def embed(
    inputs: Inputs,
    model: Model,
    output: Output,
    job_dir: JobDirOption = None,
    keep_checkpoints: KeepOption = False,
    device: Annotated[str, typer.Option(help="auto, cpu, or GPU numbers such as 0,1.")] = "auto",
    workers: Annotated[int | None, typer.Option(min=1, help="CPU workers. Default: one per 4 cores.")] = None,
    pool: PoolOption = None,
    dtype: DtypeOption = "auto",
    store_dtype: StoreDtypeOption = "float32",
    toks_per_batch: ToksOption = None,
    max_length: MaxLengthOption = None,
    long: LongOption = "window",
    shards: ShardsOption = None,
    commit_seconds: CommitSecondsOption = 2.0,
    commit_sequences: CommitSequencesOption = 10_000,
    overwrite: OverwriteOption = False,
    id_column: IdColumnOption = None,
    sequence_column: SequenceColumnOption = None,
    alphabet: AlphabetOption = "auto",
    broker: BrokerOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Embed the inputs on this machine: server, workers, progress, output. Run again to resume."""
    request = _request(locals())
    from queue_app.coordinator import embed as run_embed
    from queue_app.devices import choose_queues, cpu_threads
    from queue_app.settings import runtime_config
    from queue_app.view import open_view

    config = runtime_config()
    queues = choose_queues(device, workers, config)
    with _resumable(), open_view(quiet=quiet or as_json) as view:
        report = run_embed(
            request,
            queues=queues,
            threads=cpu_threads(len(queues)),
            broker_url=broker or _environment_broker(),
            config=config,
            view=view,
        )
    _print_report(report, as_json)


@app.command()
def enqueue(
    inputs: Inputs,
    model: Model,
    output: Output,
    job_dir: JobDirOption = None,
    keep_checkpoints: KeepOption = False,
    queues: Annotated[str | None, typer.Option(help="gpu0,gpu1,… Default: those of live workers.")] = None,
    pool: PoolOption = None,
    dtype: DtypeOption = "auto",
    store_dtype: StoreDtypeOption = "float32",
    toks_per_batch: ToksOption = None,
    max_length: MaxLengthOption = None,
    long: LongOption = "window",
    shards: ShardsOption = None,
    commit_seconds: CommitSecondsOption = 2.0,
    commit_sequences: CommitSequencesOption = 10_000,
    overwrite: OverwriteOption = False,
    id_column: IdColumnOption = None,
    sequence_column: SequenceColumnOption = None,
    alphabet: AlphabetOption = "auto",
    broker: BrokerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Submit a job to the workers of a running server, print its id and return."""
    from queue_app.devices import cpu_threads
    from queue_app.export import check_output
    from queue_app.producer import submit

    request = _request(locals())
    check_output(output)
    url, client = _connected(broker)
    names = queues.split(",") if queues else _live_queues(client)
    prepared = submit(request, broker_url=url, queues=names, threads=cpu_threads(len(names)))
    if as_json:
        print(
            json.dumps(
                {
                    "job": prepared.job.job_id,
                    "created": prepared.created,
                    "job_dir": str(prepared.job_dir.path),
                }
            )
        )
        return
    print(prepared.job.job_id)
    _say("submitted" if prepared.created else "this job was submitted before; it goes on")


@app.command()
def worker(
    queues: Annotated[list[str], typer.Argument(help="gpu0 gpu1 … or cpu0 …: one worker each.")],
    broker: BrokerOption = None,
) -> None:
    """Start one worker per device; the same as celery -A queue_app worker -Q gpu0."""
    from queue_app.coordinator import run_workers
    from queue_app.settings import runtime_config

    url, _ = _connected(broker)
    run_workers(queues, url, runtime_config())


@app.command()
def status(
    job: Annotated[str | None, typer.Argument(help="Job id or directory. Default: every job.")] = None,
    as_json: JsonOption = False,
    broker: BrokerOption = None,
) -> None:
    """How far a job is. Without a server it is read from the job directory."""
    from queue_app.lookup import snapshots

    found = snapshots(job, broker or _environment_broker())
    if as_json:
        shown = [each.as_json() for each in found]
        print(json.dumps(shown[0] if job is not None else shown))
        return
    from queue_app.view import describe

    for each in found:
        print(describe(each))


@app.command()
def resume(
    job_dir: JobDirArgument,
    device: Annotated[str, typer.Option(help="auto, cpu, or GPU numbers such as 0,1.")] = "auto",
    workers: Annotated[int | None, typer.Option(min=1, help="CPU workers.")] = None,
    broker: BrokerOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Go on with a job from its directory alone: as embed does, without reading the inputs again."""
    from queue_app.coordinator import resume as run_resume
    from queue_app.devices import choose_queues
    from queue_app.lookup import job_directory
    from queue_app.settings import runtime_config
    from queue_app.view import open_view

    directory = job_directory(job_dir)
    if device == "auto" and directory.load().options.device_class == "cpu":
        device = "cpu"
    config = runtime_config()
    with _resumable(), open_view(quiet=quiet or as_json) as view:
        report = run_resume(
            directory,
            queues=choose_queues(device, workers, config),
            broker_url=broker or _environment_broker(),
            config=config,
            view=view,
        )
    _print_report(report, as_json)


@app.command()
def cancel(job: JobArgument, broker: BrokerOption = None) -> None:
    """Stop a job at the next batch boundary. What is committed stays; resume goes on."""
    from queue_app.control import cancel as run_cancel

    _print_state(*run_cancel(job, broker or _environment_broker()))


@app.command()
def pause(job: JobArgument, broker: BrokerOption = None) -> None:
    """Stop a job at the next batch boundary until it is unpaused."""
    from queue_app.control import pause as run_pause

    _print_state(*run_pause(job, broker or _environment_broker()))


@app.command()
def unpause(job: JobArgument, broker: BrokerOption = None) -> None:
    """Let a paused job go on."""
    from queue_app.control import unpause as run_unpause

    _print_state(*run_unpause(job, broker or _environment_broker()))


@app.command()
def verify(job_dir: JobDirArgument, as_json: JsonOption = False) -> None:
    """Check every checksum, count and digest of a job again. Exit 4 when something is damaged."""
    from queue_app.lookup import job_directory
    from queue_app.verify import verify_job

    report = verify_job(job_directory(job_dir))
    if as_json:
        print(json.dumps(report.as_json()))
    else:
        for line in report.lines():
            print(line)
    raise typer.Exit(0 if report.sound else 4)


@app.command()
def quarantine(
    job_dir: JobDirArgument,
    retry: Annotated[bool, typer.Option("--retry", help="Try those again that did harm.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the records that were set aside, and why."""
    from dataclasses import asdict

    from queue_app.lookup import job_directory
    from queue_app.quarantine import list_quarantine, retry_quarantine

    directory = job_directory(job_dir)
    entries = retry_quarantine(directory) if retry else list_quarantine(directory)
    if as_json:
        print(json.dumps([asdict(entry) for entry in entries]))
    for entry in () if as_json else entries:
        print(f"{entry.ordinal}\t{entry.id}\t{entry.length}\t{entry.reason}")
    if retry:
        _say(f"{len(entries)} to be tried again: run the same command, or holdfast resume {directory.path}")


@app.command()
def export(job_dir: JobDirArgument, output: Output, as_json: JsonOption = False) -> None:
    """Write a finished job's vectors to another output, in any format."""
    from queue_app.export import check_output
    from queue_app.export import export as run_export
    from queue_app.lookup import job_directory

    check_output(output)
    directory = job_directory(job_dir)
    _print_report(run_export(directory.load(), directory, output), as_json)


@app.command()
def clean(job_dir: JobDirArgument) -> None:
    """Remove what a finished job no longer needs: shards, checkpoints, server data, logs."""
    from queue_app.cleanup import clean as run_clean
    from queue_app.lookup import job_directory

    directory = job_directory(job_dir)
    freed = run_clean(directory)
    print(f"{directory.path}: freed {freed / 1e6:.1f} MB")


# ---- what the commands share


def _print_state(job_id: str, state: str) -> None:
    print(f"job {job_id}: {state}")


def _request(options: dict[str, Any]) -> "EmbedRequest":
    from queue_app.job import RunOptions
    from queue_app.request import EmbedRequest

    return EmbedRequest(
        inputs=options["inputs"],
        model=options["model"],
        output=options["output"],
        job_dir=options["job_dir"],
        pool=options["pool"],
        dtype=options["dtype"],
        store_dtype=options["store_dtype"],
        alphabet=options["alphabet"],
        long=options["long"],
        max_length=options["max_length"],
        toks_per_batch=options["toks_per_batch"],
        num_shards=options["shards"],
        id_column=options["id_column"],
        sequence_column=options["sequence_column"],
        run=RunOptions(
            commit_seconds=options["commit_seconds"],
            commit_sequences=options["commit_sequences"],
            keep_checkpoints=options["keep_checkpoints"],
        ),
        overwrite=options["overwrite"],
    )


def _environment_broker() -> str | None:
    """HOLDFAST_BROKER_URL where it is set: only then does `embed` use a server that is not its own."""
    from queue_app.settings import runtime_config

    config = runtime_config()
    return config.broker_url if "broker_url" in config.model_fields_set else None


def _connected(broker: str | None) -> "tuple[str, redis.Redis]":
    from queue_app.broker import check, connect
    from queue_app.settings import runtime_config

    url = broker or runtime_config().broker_url
    client = connect(url)
    check(client, url)
    return url, client


def _live_queues(client: "redis.Redis") -> list[str]:
    from queue_app.settings import runtime_config
    from queue_app.workers import live_workers

    queues = sorted({entry.queue for entry in live_workers(client, runtime_config().lease_seconds)})
    if not queues:
        raise UsageError("no worker is running; start one (holdfast worker gpu0), or name --queues gpu0,gpu1")
    return queues


@contextmanager
def _resumable() -> Iterator[None]:
    """Ctrl-C and SIGTERM (a spot notice) end a run in order; say how to go on."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        _say("interrupted; what is done is committed. The same command goes on.")
        raise typer.Exit(INTERRUPTED) from None


def _print_report(report: "ExportReport", as_json: bool) -> None:
    from queue_app.view import describe_report

    if as_json:
        print(json.dumps(report_json(report)))
    else:
        print(describe_report(report))
    if report.num_quarantined:
        raise typer.Exit(QUARANTINED)


def report_json(report: "ExportReport") -> dict[str, Any]:
    return {
        "output": str(report.output),
        "records": report.num_records,
        "embedded": report.num_embedded,
        "quarantined": report.num_quarantined,
        "digest": report.output_digest,
    }


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _dashes(arguments: Sequence[str]) -> list[str]:
    """`--store_dtype` means `--store-dtype`; values keep their underscores."""
    return [_dashed(argument) if argument.startswith("--") else argument for argument in arguments]


def _dashed(argument: str) -> str:
    flag, equals, value = argument.partition("=")
    return flag.replace("_", "-") + equals + value


def main() -> None:
    """The console command. Errors that the user can answer are one line and a documented exit code."""
    try:
        app(args=_dashes(sys.argv[1:]), prog_name="holdfast")
    except HoldfastError as error:
        _say(f"holdfast: {error}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader (head, less) has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        # The machine's no, not ours: permissions, limits, a disk that went away.
        _say(f"holdfast: {error.filename or 'system'}: {error.strerror or error}")
        sys.exit(HoldfastError.exit_code)


if __name__ == "__main__":
    main()
