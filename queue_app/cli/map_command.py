"""`holdfast map`."""

from pathlib import Path
from typing import Annotated

import typer

from queue_app.cli import options as options


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
    print(f"{output}: {len(drawn.ids):,} of {drawn.published.num_embedded:,} records")
