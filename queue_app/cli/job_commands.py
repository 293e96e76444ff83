"""The commands about a job that is there: how far it is, holding it, checking it, writing it anew."""

from typing import Annotated

import typer

from queue_app.choices import ALLOW_QUARANTINE
from queue_app.cli import options as options
from queue_app.cli.printing import (
    print_answer,
    print_json,
    print_state,
    say,
    watched,
)
from queue_app.errors import UsageError


def status(
    job: options.AnyJobArgument = None,
    watch: options.Watch = False,
    allow_quarantine: options.AllowQuarantine = None,
    as_json: options.Json = False,
    broker_url: options.BrokerUrl = None,
) -> None:
    """How far a job is. Without a server it is read from the job directory.

    Without a job it lists those of this directory, the last ones that you began, and those of the server.
    With --watch the exit code is that of the job: 0 all embedded, 3 some quarantined, 1 failed or cancelled.
    """
    from queue_app.status.allowance import parse_allowance

    allowed = parse_allowance(allow_quarantine)
    if watch:
        raise typer.Exit(watched(job, options.named_broker(broker_url), as_json, allowed))
    if allow_quarantine is not None:
        raise UsageError(f"{ALLOW_QUARANTINE} is for --watch, whose exit code is that of the job")
    if job is None:
        from queue_app.status.all_jobs import NONE_KNOWN, all_jobs

        jobs = all_jobs(options.named_broker(broker_url))
        print_answer(
            as_json, [each.as_json() for each in jobs], [each.text() for each in jobs] or [NONE_KNOWN]
        )
        return
    from queue_app.status.snapshot import snapshots
    from queue_app.status.text import describe

    (found,) = snapshots(job, options.named_broker(broker_url))
    print_answer(as_json, found.as_json(), [describe(found)])


def cancel(job: options.JobArgument, broker_url: options.BrokerUrl = None) -> None:
    """Stop a job at the next batch boundary. What is committed stays; resume goes on."""
    from queue_app.coordination.job_control import cancel as run_cancel

    print_state(*run_cancel(job, options.named_broker(broker_url)))


def pause(job: options.JobArgument, broker_url: options.BrokerUrl = None) -> None:
    """Stop a job at the next batch boundary until it is unpaused."""
    from queue_app.coordination.job_control import pause as run_pause

    print_state(*run_pause(job, options.named_broker(broker_url)))


def unpause(job: options.JobArgument, broker_url: options.BrokerUrl = None) -> None:
    """Let a paused job go on."""
    from queue_app.coordination.job_control import unpause as run_unpause

    print_state(*run_unpause(job, options.named_broker(broker_url)))


def dashboard(
    job: options.AnyJobArgument = None,
    broker_url: options.BrokerUrl = None,
    host: Annotated[str, typer.Option(help="0.0.0.0 lets other machines in, unencrypted.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Default: 8765, or a free one.")] = None,
    metadata: options.Metadata = None,
) -> None:
    """Serve a page that shows jobs at work and maps their vectors.

    From it jobs can be paused, unpaused and cancelled.
    """
    from queue_app.dashboard.extra import require_extra

    require_extra()
    from queue_app.dashboard.serve import serve

    serve(job, options.named_broker(broker_url), host=host, port=port, metadata=metadata)


def quarantine(
    job_dir: options.JobDirArgument,
    retry: Annotated[
        bool, typer.Option("--retry", help="Try those again that killed or failed their process.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """List the records that could not be embedded, and why."""
    from dataclasses import asdict

    from queue_app.job.directory import find_job_directory
    from queue_app.job.quarantine import list_quarantine, retry_quarantine, tsv_line

    directory = find_job_directory(job_dir)
    entries = retry_quarantine(directory) if retry else list_quarantine(directory)
    if as_json:
        print_json([asdict(entry) for entry in entries])
        return
    for entry in entries:
        print(tsv_line(entry))
    if retry and entries:
        say(f"{len(entries)} to be tried again: run the same command, or holdfast resume {directory.path}")
    elif not entries:
        say("no record can be tried again as it stands" if retry else "no record is quarantined")
