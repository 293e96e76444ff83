"""How inputs are read, in words: the same in the view, in a plan and in the run card."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from queue_app.ingest.readers.formats import FORMATS, format_by_name
from queue_app.job.spec import InputFile, ReadAs


def reading(read_as: ReadAs) -> str:
    """`CSV: sequences from 'seq', ids from 'accession'`; of what has no columns its format."""
    title = FORMATS[read_as.format].title
    if read_as.sequence_column is None:
        return title
    ids = "their numbers as ids" if read_as.id_column is None else f"ids from {read_as.id_column!r}"
    return f"{title}: sequences from {read_as.sequence_column!r}, {ids}"


def readings(files: Sequence[InputFile]) -> Iterator[str]:
    """A line for each way of reading that the files' names do not say."""
    by_way: dict[ReadAs, list[str]] = {}
    for file in files:
        way = file.read_as
        if way and (way.sequence_column is not None or format_by_name(Path(file.name)) != way.format):
            by_way.setdefault(way, []).append(file.name)
    for way, names in by_way.items():
        more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
        yield f"{names[0]}{more}: read as {reading(way)}"
