"""The command line: parsing and printing only. What a command does lives in the module it calls.

Everything heavy is imported inside the commands: `holdfast --help` must be there at once.
"""

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from queue_app.cli import options as options
from queue_app.cli.job_commands import clean, export, quarantine, verify
from queue_app.cli.preflight_commands import convert, doctor, plan
from queue_app.cli.printing import (
    INTERRUPTED,
    print_json,
    print_report,
    print_state,
    resumable,
    say,
    watched,
)
from queue_app.cli.request_options import takes_request
from queue_app.errors import HoldfastError, UsageError
from queue_app.host.limits import is_thread_refused, out_of_memory, require_limits, thread_refused
from queue_app.host.surroundings import settle
from queue_app.job.allowance import OPTION, parse_allowance

if TYPE_CHECKING:
    from queue_app.ingest.request import EmbedRequest

app = typer.Typer(
    name="holdfast",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def holdfast(version: options.Version = False) -> None:
    """Crash-safe batch embedding inference. A job that was killed goes on where it was: run it again."""


@app.command()
@takes_request
def embed(
    request: "EmbedRequest",
    device: options.Device = "auto",
    workers: options.Workers = None,
    broker: options.Broker = None,
    metrics_port: options.MetricsPort = None,
    metrics_address: options.MetricsAddress = None,
    allow_quarantine: options.AllowQuarantine = None,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Embed the inputs on this machine. Run again to resume.

    Starts a server and a worker per device, shows how far it is, and writes the output.
    """
    from queue_app.ingest.model_options import start_finding_requested

    find_model = start_finding_requested(request)  # it is read while this process imports the rest
    from queue_app.api.local_run import cpu_workers
    from queue_app.api.local_run import embed as run_embed
    from queue_app.host.devices import choose_queues, cpu_threads
    from queue_app.host.memory import do_without_pandas
    from queue_app.status.view import open_view

    do_without_pandas()
    allowed = parse_allowance(allow_quarantine)
    config = options.config_with_metrics(metrics_port, metrics_address)
    model = find_model()
    queues = choose_queues(device, workers, config, cpu_workers=cpu_workers(request, model))
    with resumable(), open_view(quiet=quiet or as_json) as view:
        report = run_embed(
            request,
            model,
            queues=queues,
            threads=cpu_threads(len(queues)),
            broker_url=options.named_broker(broker),
            config=config,
            view=view,
        )
    print_report(report, as_json, allowed)


app.command()(plan)


@app.command()
@takes_request
def enqueue(
    request: "EmbedRequest",
    queues: Annotated[str | None, typer.Option(help="gpu0,gpu1,… Default: those of live workers.")] = None,
    broker: options.Broker = None,
    as_json: options.Json = False,
) -> None:
    """Hand a job to the workers of a running server. Prints its id and returns."""
    from queue_app.api.embed import submit
    from queue_app.ingest.readers.formats import readings

    job = submit(request, broker_url=broker, queues=queues.split(",") if queues is not None else None)
    if as_json:
        print_json({"job": job.id, "created": job.created, "job_dir": str(job.job_dir.path)})
        return
    print(job.id)
    for line in readings(job.job.inputs):
        say(line)
    for note in job.job.notes:
        say(f"note: {note}")
    say("submitted" if job.created else "this job was submitted before; it goes on")


@app.command()
def worker(
    queues: Annotated[list[str], typer.Argument(help="gpu0 gpu1 … or cpu0 …: one worker each.")],
    broker: options.Broker = None,
    metrics_port: options.MetricsPort = None,
    metrics_address: options.MetricsAddress = None,
) -> None:
    """Start one worker per device. The same as celery -A queue_app worker -Q gpu0."""
    from queue_app.coordination.redis_client import connected
    from queue_app.host.devices import check_queues
    from queue_app.worker.supervisor import run_workers

    check_queues(queues)
    config = options.config_with_metrics(metrics_port, metrics_address)
    url, _ = connected(broker)
    run_workers(queues, url, config)


@app.command()
def status(
    job: Annotated[str | None, typer.Argument(help="Job id or directory. Default: every job.")] = None,
    watch: options.Watch = False,
    allow_quarantine: options.AllowQuarantine = None,
    as_json: options.Json = False,
    broker: options.Broker = None,
) -> None:
    """How far a job is. Without a server it is read from the job directory.

    With --watch the exit code is that of the job: 0 all embedded, 3 some quarantined, 1 failed or cancelled.
    """
    allowed = parse_allowance(allow_quarantine)
    if watch:
        raise typer.Exit(watched(job, options.named_broker(broker), as_json, allowed))
    if allow_quarantine is not None:
        raise UsageError(f"{OPTION} is for --watch, whose exit code is that of the job")
    from queue_app.status.snapshot import snapshots

    found = snapshots(job, options.named_broker(broker))
    if as_json:
        shown = [each.as_json() for each in found]
        print_json(shown[0] if job is not None else shown)
        return
    from queue_app.status.text import describe

    for each in found:
        print(describe(each))
    if not found:
        print("the server knows no jobs")


@app.command()
def resume(
    job_dir: options.JobDirArgument,
    model: options.MovedModel = None,
    output: options.ResumedOutput = None,
    device: options.Device = "auto",
    workers: options.Workers = None,
    broker: options.Broker = None,
    metrics_port: options.MetricsPort = None,
    metrics_address: options.MetricsAddress = None,
    allow_quarantine: options.AllowQuarantine = None,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Go on with a job from its directory alone. As embed does, without reading the inputs again.

    The output of a job directory that was moved or copied is written beside it, not where it was.
    """
    from queue_app.api.local_run import resume as run_resume
    from queue_app.host.devices import choose_queues, cpu_workers_of
    from queue_app.job.directory import job_and_output
    from queue_app.status.view import open_view

    allowed = parse_allowance(allow_quarantine)
    directory, named = job_and_output(job_dir)
    loaded = directory.load()
    require_limits(loaded.model.path)
    if device == "auto" and loaded.options.device_class == "cpu":
        device = "cpu"
    config = options.config_with_metrics(metrics_port, metrics_address)
    queues = choose_queues(device, workers, config, cpu_workers=cpu_workers_of(loaded.threads))
    with resumable(), open_view(quiet=quiet or as_json) as view:
        report = run_resume(
            directory,
            output=output or named,
            queues=queues,
            broker_url=options.named_broker(broker),
            config=config,
            view=view,
            model=model,
        )
    print_report(report, as_json, allowed)


@app.command()
def cancel(job: options.JobArgument, broker: options.Broker = None) -> None:
    """Stop a job at the next batch boundary. What is committed stays; resume goes on."""
    from queue_app.coordination.job_control import cancel as run_cancel

    print_state(*run_cancel(job, options.named_broker(broker)))


@app.command()
def pause(job: options.JobArgument, broker: options.Broker = None) -> None:
    """Stop a job at the next batch boundary until it is unpaused."""
    from queue_app.coordination.job_control import pause as run_pause

    print_state(*run_pause(job, options.named_broker(broker)))


@app.command()
def unpause(job: options.JobArgument, broker: options.Broker = None) -> None:
    """Let a paused job go on."""
    from queue_app.coordination.job_control import unpause as run_unpause

    print_state(*run_unpause(job, options.named_broker(broker)))


@app.command()
def dashboard(
    job: Annotated[str | None, typer.Argument(help="Job id, job directory, or output. Default: all.")] = None,
    broker: options.Broker = None,
    host: Annotated[str, typer.Option(help="0.0.0.0 lets other machines in, unencrypted.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Default: 8765, or a free one.")] = None,
    metadata: options.Metadata = None,
) -> None:
    """Serve a page that shows jobs at work and maps their vectors.

    From it jobs can be paused, unpaused and cancelled.
    """
    from queue_app.dashboard import require_extra

    require_extra()
    from queue_app.dashboard.serve import serve

    serve(job, options.named_broker(broker), host=host, port=port, metadata=metadata)


for command in (verify, quarantine, export, clean, doctor, convert):
    app.command()(command)


def main() -> None:
    """The console command. Errors that the user can answer are one line and a documented exit code."""
    settle()
    try:
        _refuse_empty(sys.argv[1:])
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
    except MemoryError:
        say(f"holdfast: {out_of_memory()}")
        sys.exit(HoldfastError.exit_code)
    except OSError as error:
        # The machine's no, not ours: permissions, limits, a disk that went away.
        say(f"holdfast: {error.filename or 'system'}: {error.strerror or error}")
        sys.exit(HoldfastError.exit_code)
    except Exception as error:
        if not is_thread_refused(error):
            raise
        say(f"holdfast: {thread_refused()}")
        sys.exit(HoldfastError.exit_code)


def _refuse_empty(arguments: list[str]) -> None:
    """As a path it would be the directory that we are in. Raises UsageError."""
    if "" in arguments:
        raise UsageError("an argument is empty: is a variable of the shell not set?")


if __name__ == "__main__":
    main()
