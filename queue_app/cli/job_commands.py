"""`holdfast verify`, `quarantine`, `export`, `clean`: parsing and printing only, of a job in its directory.

As cli.py, this is imported for every `holdfast --help`: everything heavy is imported inside the functions.
"""

from typing import Annotated

import typer

from queue_app.cli import options as options
from queue_app.cli.printing import DAMAGED, print_json, print_report, say
from queue_app.job.allowance import parse_allowance


def verify(job_dir: options.JobDirArgument, as_json: options.Json = False) -> None:
    """Check every checksum, count and digest of a job again. Exit 4 when something is damaged."""
    from queue_app.job.directory import find_job_directory
    from queue_app.outputs.verify import verify_job

    report = verify_job(find_job_directory(job_dir))
    if as_json:
        print_json(report.as_json())
    else:
        for line in report.lines():
            print(line)
    raise typer.Exit(0 if report.sound else DAMAGED)


def quarantine(
    job_dir: options.JobDirArgument,
    retry: Annotated[bool, typer.Option("--retry", help="Try those again that did harm.")] = False,
    as_json: options.Json = False,
) -> None:
    """List the records that were set aside, and why."""
    from dataclasses import asdict

    from queue_app.job.directory import find_job_directory
    from queue_app.job.quarantine import list_quarantine, retry_quarantine

    directory = find_job_directory(job_dir)
    entries = retry_quarantine(directory) if retry else list_quarantine(directory)
    if as_json:
        print_json([asdict(entry) for entry in entries])
        return
    for entry in entries:
        print(f"{entry.ordinal}\t{entry.id}\t{entry.length}\t{entry.reason}")
    if retry and entries:
        say(f"{len(entries)} to be tried again: run the same command, or holdfast resume {directory.path}")
    elif not entries:
        say("no record can be tried again as it stands" if retry else "no record was set aside")


def export(
    job_dir: options.JobDirArgument,
    output: options.Output,
    h5_layout: options.H5Layout = "flat",
    overwrite: options.Replace = False,
    allow_quarantine: options.AllowQuarantine = None,
    as_json: options.Json = False,
) -> None:
    """Write a finished job's vectors to another output. In any format, without computing again."""
    from queue_app.job.directory import find_job_directory
    from queue_app.job.output_names import refuse_unheeded
    from queue_app.job.output_place import check_output
    from queue_app.outputs.export import export as run_export

    allowed = parse_allowance(allow_quarantine)
    check_output(output)
    refuse_unheeded(output, None, h5_layout)
    directory = find_job_directory(job_dir)
    report = run_export(directory.load(), directory, output, h5_layout=h5_layout, overwrite=overwrite)
    print_report(report, as_json, allowed)


def clean(job_dir: options.JobDirArgument) -> None:
    """Remove what a finished job no longer needs. Shards, checkpoints, arrays, server data, logs."""
    from queue_app.job.directory import find_job_directory
    from queue_app.outputs.clean import clean as run_clean

    directory = find_job_directory(job_dir)
    freed = run_clean(directory)
    print(f"{directory.path}: freed {freed / 1e6:.1f} MB")
