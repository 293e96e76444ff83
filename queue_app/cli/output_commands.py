"""The commands about what a finished job has left: checking it, writing it anew, clearing it."""

from pathlib import Path
from typing import Annotated

import typer

from queue_app.cli import options as options
from queue_app.cli.printing import DAMAGED, end_with_quarantine, print_answer, print_report, tell


def verify(job_dir: options.JobDirArgument, as_json: options.Json = False) -> None:
    """Check every checksum, count and digest of a job again. Exit 4 when something is damaged."""
    from queue_app.job.directory import find_job_directory
    from queue_app.outputs.verify import verify_job

    report = verify_job(find_job_directory(job_dir))
    print_answer(as_json, report.as_json(), report.lines())
    raise typer.Exit(0 if report.sound else DAMAGED)


def export(
    job_dir: options.JobDirArgument,
    output: options.Output,
    h5_layout: options.H5Layout = "flat",
    precision: options.Precision = "float32",
    overwrite: options.Replace = False,
    allow_quarantine: options.AllowQuarantine = None,
    as_json: options.Json = False,
) -> None:
    """Write a finished job's vectors to another output. In any format, without computing again."""
    from queue_app.job.directory import find_job_directory
    from queue_app.job.output_names import refuse_unheeded
    from queue_app.job.output_place import check_output
    from queue_app.outputs.export import export as run_export
    from queue_app.status.allowance import parse_allowance

    allowed = parse_allowance(allow_quarantine)
    check_output(output)
    refuse_unheeded(output, None, h5_layout, precision)
    directory = find_job_directory(job_dir)
    report = run_export(
        directory.load(), directory, output, h5_layout=h5_layout, precision=precision, overwrite=overwrite
    )
    print_report(report, as_json, allowed)


def map_file(
    job_dir: options.JobDirArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="An .html file.")],
    metadata: options.Metadata = None,
    colour: Annotated[str, typer.Option(help="Column to colour by at first. Default: the first one.")] = "",
    column: Annotated[str, typer.Option(help="Which vectors, where each record has several.")] = "",
    method: Annotated[str, typer.Option(help="pca, or umap where it is installed. Default: pca.")] = "",
    overwrite: options.Replace = False,
) -> None:
    """Write the map of a finished job as one HTML file. It needs no server and no network.

    In it one can hover, zoom, search, colour, and select ids.
    """
    from queue_app.dashboard.map.make_map import Wanted
    from queue_app.dashboard.map.metadata import read_metadata
    from queue_app.dashboard.map.published_vectors import Published
    from queue_app.dashboard.map.standalone import write_map
    from queue_app.job.directory import find_job_directory

    directory = find_job_directory(job_dir)
    job = directory.load()
    known = read_metadata(metadata) if metadata else None
    wanted = Wanted(job.job_id, column, method)
    drawn = write_map(Published.find(job, directory), output, known, wanted, colour, overwrite=overwrite)
    tell(f"{output}: {len(drawn.ids):,} of {drawn.published.num_embedded:,} records")


def index(
    job_dir: options.JobDirArgument,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Default: <output of the job>.faiss.")
    ] = None,
    kind: options.IndexKind = "flat",
    metric: options.Metric = "cosine",
    column: Annotated[
        str | None, typer.Option(help="Which vectors, of several pools or layers, as embedding_cls.")
    ] = None,
    overwrite: options.Replace = False,
    allow_quarantine: options.AllowQuarantine = None,
    as_json: options.Json = False,
) -> None:
    """Make a FAISS index of a finished job's vectors. Without computing again.

    It finds row numbers, which count from 0 as in every output; their ids lie beside it, one a line.
    """
    from queue_app.job.directory import job_and_output
    from queue_app.job.output_place import output_of
    from queue_app.outputs.faiss_index import default_index, require_faiss, write_index
    from queue_app.status.allowance import parse_allowance

    allowed = parse_allowance(allow_quarantine)
    require_faiss()
    directory, named = job_and_output(job_dir)
    job = directory.load()
    path = output or default_index(named or output_of(job, directory))
    report = write_index(job, directory, path, kind=kind, metric=metric, column=column, overwrite=overwrite)
    print_answer(as_json, report.as_json(), report.lines())
    end_with_quarantine(report.num_quarantined, report.num_records, allowed)


def clean(job_dir: options.JobDirArgument) -> None:
    """Remove what a finished job no longer needs. Shards, checkpoints, arrays, server data, logs."""
    from queue_app.job.directory import find_job_directory
    from queue_app.outputs.clean import clean as run_clean

    directory = find_job_directory(job_dir)
    freed = run_clean(directory)
    tell(f"{directory.path}: freed {freed / 1e6:.1f} MB")
