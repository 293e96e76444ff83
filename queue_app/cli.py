"""The command line: parsing and printing only. What a command does lives in the module it calls.

Everything heavy is imported inside the commands: `holdfast --help` must be there at once.
"""

import os
import sys
from typing import Annotated

import typer

from queue_app import cli_options as options
from queue_app.cli_beforehand import doctor, plan
from queue_app.cli_output import (
    DAMAGED,
    INTERRUPTED,
    print_json,
    print_report,
    print_state,
    resumable,
    say,
    watched,
)
from queue_app.errors import HoldfastError

app = typer.Typer(
    name="holdfast",
    help="Crash-safe batch embedding inference. A job that was killed goes on where it was: run it again.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command()
def embed(
    inputs: options.Inputs,
    model: options.Model,
    output: options.Output,
    job_dir: options.JobDir = None,
    keep_checkpoints: options.KeepCheckpoints = False,
    device: options.Device = "auto",
    workers: Annotated[int | None, typer.Option(min=1, help="CPU workers. Default: by model size.")] = None,
    pool: options.Pool = None,
    layer: options.Layer = "-1",
    dtype: options.Dtype = "auto",
    store_dtype: options.StoreDtype = "float32",
    toks_per_batch: options.ToksPerBatch = None,
    max_length: options.MaxLength = None,
    long: options.Long = "window",
    shards: options.Shards = None,
    no_dedup: options.NoDedup = False,
    reuse: options.Reuse = None,
    commit_seconds: options.CommitSeconds = 2.0,
    commit_sequences: options.CommitSequences = 10_000,
    h5_layout: options.H5Layout = "flat",
    overwrite: options.Overwrite = False,
    input_format: options.InputFormat = None,
    id_column: options.IdColumn = None,
    sequence_column: options.SequenceColumn = None,
    alphabet: options.Alphabet = "auto",
    broker: options.Broker = None,
    metrics_port: options.MetricsPort = None,
    metrics_address: options.MetricsAddress = None,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Embed the inputs on this machine: server, workers, progress, output. Run again to resume."""
    request = options.request_of(locals())
    from queue_app.devices import choose_queues, cpu_threads
    from queue_app.frugal import do_without_pandas
    from queue_app.local_run import cpu_workers
    from queue_app.local_run import embed as run_embed
    from queue_app.view import open_view

    do_without_pandas()
    config = options.config_with_metrics(metrics_port, metrics_address)
    queues = choose_queues(device, workers, config, cpu_workers=cpu_workers(request))
    with resumable(), open_view(quiet=quiet or as_json) as view:
        report = run_embed(
            request,
            queues=queues,
            threads=cpu_threads(len(queues)),
            broker_url=options.named_broker(broker),
            config=config,
            view=view,
        )
    print_report(report, as_json)


app.command()(plan)


@app.command()
def enqueue(
    inputs: options.Inputs,
    model: options.Model,
    output: options.Output,
    job_dir: options.JobDir = None,
    keep_checkpoints: options.KeepCheckpoints = False,
    queues: Annotated[str | None, typer.Option(help="gpu0,gpu1,… Default: those of live workers.")] = None,
    pool: options.Pool = None,
    layer: options.Layer = "-1",
    dtype: options.Dtype = "auto",
    store_dtype: options.StoreDtype = "float32",
    toks_per_batch: options.ToksPerBatch = None,
    max_length: options.MaxLength = None,
    long: options.Long = "window",
    shards: options.Shards = None,
    no_dedup: options.NoDedup = False,
    reuse: options.Reuse = None,
    commit_seconds: options.CommitSeconds = 2.0,
    commit_sequences: options.CommitSequences = 10_000,
    h5_layout: options.H5Layout = "flat",
    overwrite: options.Overwrite = False,
    input_format: options.InputFormat = None,
    id_column: options.IdColumn = None,
    sequence_column: options.SequenceColumn = None,
    alphabet: options.Alphabet = "auto",
    broker: options.Broker = None,
    as_json: options.Json = False,
) -> None:
    """Submit a job to the workers of a running server, print its id and return."""
    from queue_app.devices import cpu_threads
    from queue_app.export import check_output
    from queue_app.producer import submit

    request = options.request_of(locals())
    check_output(output)
    url, client = options.connected(broker)
    names = queues.split(",") if queues else options.live_queues(client)
    prepared = submit(request, broker_url=url, queues=names, threads=cpu_threads(len(names)))
    if as_json:
        job_dir = prepared.job_dir.path
        print_json({"job": prepared.job.job_id, "created": prepared.created, "job_dir": str(job_dir)})
        return
    print(prepared.job.job_id)
    say("submitted" if prepared.created else "this job was submitted before; it goes on")


@app.command()
def worker(
    queues: Annotated[list[str], typer.Argument(help="gpu0 gpu1 … or cpu0 …: one worker each.")],
    broker: options.Broker = None,
    metrics_port: options.MetricsPort = None,
    metrics_address: options.MetricsAddress = None,
) -> None:
    """Start one worker per device; the same as celery -A queue_app worker -Q gpu0."""
    from queue_app.coordinator import run_workers

    config = options.config_with_metrics(metrics_port, metrics_address)
    url, _ = options.connected(broker)
    run_workers(queues, url, config)


@app.command()
def status(
    job: Annotated[str | None, typer.Argument(help="Job id or directory. Default: every job.")] = None,
    watch: options.Watch = False,
    as_json: options.Json = False,
    broker: options.Broker = None,
) -> None:
    """How far a job is. Without a server it is read from the job directory.

    With --watch the exit code is that of the job: 0 all embedded, 3 some quarantined, 1 failed or cancelled.
    """
    if watch:
        raise typer.Exit(watched(job, options.named_broker(broker), as_json))
    from queue_app.lookup import snapshots

    found = snapshots(job, options.named_broker(broker))
    if as_json:
        shown = [each.as_json() for each in found]
        print_json(shown[0] if job is not None else shown)
        return
    from queue_app.view import describe

    for each in found:
        print(describe(each))


@app.command()
def resume(
    job_dir: options.JobDirArgument,
    device: options.Device = "auto",
    workers: Annotated[int | None, typer.Option(min=1, help="CPU workers.")] = None,
    broker: options.Broker = None,
    metrics_port: options.MetricsPort = None,
    metrics_address: options.MetricsAddress = None,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Go on with a job from its directory alone: as embed does, without reading the inputs again."""
    from queue_app.devices import choose_queues, cpu_workers_of
    from queue_app.local_run import resume as run_resume
    from queue_app.lookup import job_directory
    from queue_app.view import open_view

    directory = job_directory(job_dir)
    loaded = directory.load()
    if device == "auto" and loaded.options.device_class == "cpu":
        device = "cpu"
    config = options.config_with_metrics(metrics_port, metrics_address)
    queues = choose_queues(device, workers, config, cpu_workers=cpu_workers_of(loaded.threads))
    with resumable(), open_view(quiet=quiet or as_json) as view:
        report = run_resume(
            directory,
            queues=queues,
            broker_url=options.named_broker(broker),
            config=config,
            view=view,
        )
    print_report(report, as_json)


@app.command()
def cancel(job: options.JobArgument, broker: options.Broker = None) -> None:
    """Stop a job at the next batch boundary. What is committed stays; resume goes on."""
    from queue_app.control import cancel as run_cancel

    print_state(*run_cancel(job, options.named_broker(broker)))


@app.command()
def pause(job: options.JobArgument, broker: options.Broker = None) -> None:
    """Stop a job at the next batch boundary until it is unpaused."""
    from queue_app.control import pause as run_pause

    print_state(*run_pause(job, options.named_broker(broker)))


@app.command()
def unpause(job: options.JobArgument, broker: options.Broker = None) -> None:
    """Let a paused job go on."""
    from queue_app.control import unpause as run_unpause

    print_state(*run_unpause(job, options.named_broker(broker)))


@app.command()
def dashboard(
    job: Annotated[str | None, typer.Argument(help="Job id, job directory, or output. Default: all.")] = None,
    broker: options.Broker = None,
    host: Annotated[str, typer.Option(help="0.0.0.0 lets other machines in, unencrypted.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Default: 8765, or a free one.")] = None,
    metadata: options.Metadata = None,
) -> None:
    """Serve a page that shows jobs at work, can pause, unpause and cancel them, and maps their embeddings."""
    from queue_app.dashboard import require_extra

    require_extra()
    from queue_app.dashboard.serve import serve

    serve(job, options.named_broker(broker), host=host, port=port, metadata=metadata)


@app.command()
def verify(job_dir: options.JobDirArgument, as_json: options.Json = False) -> None:
    """Check every checksum, count and digest of a job again. Exit 4 when something is damaged."""
    from queue_app.lookup import job_directory
    from queue_app.verify import verify_job

    report = verify_job(job_directory(job_dir))
    if as_json:
        print_json(report.as_json())
    else:
        for line in report.lines():
            print(line)
    raise typer.Exit(0 if report.sound else DAMAGED)


@app.command()
def quarantine(
    job_dir: options.JobDirArgument,
    retry: Annotated[bool, typer.Option("--retry", help="Try those again that did harm.")] = False,
    as_json: options.Json = False,
) -> None:
    """List the records that were set aside, and why."""
    from dataclasses import asdict

    from queue_app.lookup import job_directory
    from queue_app.quarantine import list_quarantine, retry_quarantine

    directory = job_directory(job_dir)
    entries = retry_quarantine(directory) if retry else list_quarantine(directory)
    if as_json:
        print_json([asdict(entry) for entry in entries])
    for entry in () if as_json else entries:
        print(f"{entry.ordinal}\t{entry.id}\t{entry.length}\t{entry.reason}")
    if retry:
        say(f"{len(entries)} to be tried again: run the same command, or holdfast resume {directory.path}")


@app.command()
def export(
    job_dir: options.JobDirArgument,
    output: options.Output,
    h5_layout: options.H5Layout = "flat",
    as_json: options.Json = False,
) -> None:
    """Write a finished job's vectors to another output, in any format."""
    from queue_app.export import check_output
    from queue_app.export import export as run_export
    from queue_app.lookup import job_directory

    check_output(output)
    directory = job_directory(job_dir)
    print_report(run_export(directory.load(), directory, output, h5_layout=h5_layout), as_json)


@app.command()
def clean(job_dir: options.JobDirArgument) -> None:
    """Remove what a finished job no longer needs: shards, checkpoints, server data, logs."""
    from queue_app.cleanup import clean as run_clean
    from queue_app.lookup import job_directory

    directory = job_directory(job_dir)
    freed = run_clean(directory)
    print(f"{directory.path}: freed {freed / 1e6:.1f} MB")


app.command()(doctor)


def main() -> None:
    """The console command. Errors that the user can answer are one line and a documented exit code."""
    try:
        app(args=options.with_dashes(sys.argv[1:]), prog_name="holdfast")
    except HoldfastError as error:
        say(f"holdfast: {error}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader (head, less) has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        # The machine's no, not ours: permissions, limits, a disk that went away.
        say(f"holdfast: {error.filename or 'system'}: {error.strerror or error}")
        sys.exit(HoldfastError.exit_code)


if __name__ == "__main__":
    main()
