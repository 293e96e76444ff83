"""How inputs are read, in words: the same before a job, in its plan and in its run card."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from queue_app.formats import FORMATS, format_by_name
from queue_app.job import Job, ReadAs
from queue_app.sources import Input


def reading(read_as: ReadAs) -> str:
    """`CSV: sequences from 'seq', ids from 'accession'`; of what has no columns its format."""
    title = FORMATS[read_as.format].title
    if read_as.sequence_column is None:
        return title
    ids = "their numbers as ids" if read_as.id_column is None else f"ids from {read_as.id_column!r}"
    return f"{title}: sequences from {read_as.sequence_column!r}, {ids}"


def readings(files: Sequence[Input], found: Sequence[ReadAs]) -> Iterator[str]:
    """A line for each way of reading that the files' names do not say."""
    by_way: dict[ReadAs, list[str]] = {}
    for file, read_as in zip(files, found, strict=True):
        if read_as.sequence_column is not None or format_by_name(file.named) != read_as.format:
            by_way.setdefault(read_as, []).append(file.title)
    for read_as, titles in by_way.items():
        more = f" and {len(titles) - 1:,} more" if len(titles) > 1 else ""
        yield f"{titles[0]}{more}: read as {reading(read_as)}"


def readings_of(job: Job) -> Iterator[str]:
    """The same of a job that stands."""
    known = [(Path(file.path), file.read_as) for file in job.inputs if file.read_as is not None]
    yield from readings([Input(path, path) for path, _ in known], [read_as for _, read_as in known])
