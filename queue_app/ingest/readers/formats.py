"""The input formats: how each is told, who reads it, and how that is said to users."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from queue_app.choices import InputFormat
from queue_app.errors import InputError
from queue_app.ingest.readers.bounds.limits import DEFAULT, Limits
from queue_app.ingest.readers.columnar.reader import read_arrow, read_parquet
from queue_app.ingest.readers.columns import Columns
from queue_app.ingest.readers.compression import ENDINGS
from queue_app.ingest.readers.csv_tsv import read_csv, read_tsv
from queue_app.ingest.readers.fasta import read_fasta, read_fastq
from queue_app.ingest.readers.json_lines import read_json_lines
from queue_app.ingest.readers.json_values import read_json
from queue_app.ingest.readers.signatures import Head, binary_format
from queue_app.ingest.readers.sources import Input, Rows, Source, open_source
from queue_app.ingest.readers.values import row_of_text, shown
from queue_app.job.spec import InputFile, ReadAs


@dataclass(frozen=True, slots=True)
class Format:
    """`endings` are the names it goes by; before an archive's ending, too, where it is text."""

    title: str
    endings: tuple[str, ...]
    read: Callable[[Source, Columns], Rows]


def read_lines(source: Source, columns: Columns) -> Rows:
    """One text a line; its id is the line's number."""
    for number, line in enumerate(source.text(), start=1):
        yield row_of_text(number, str(number), line.removesuffix("\n"), {})


FORMATS: Mapping[InputFormat, Format] = {
    "fasta": Format("FASTA", (".fasta", ".fa", ".faa", ".fna", ".ffn", ".fas"), read_fasta),
    "fastq": Format("FASTQ", (".fastq", ".fq"), read_fastq),
    "csv": Format("CSV", (".csv",), read_csv),
    "tsv": Format("TSV", (".tsv",), read_tsv),
    "jsonl": Format("JSON lines", (".jsonl", ".ndjson"), read_json_lines),
    "json": Format("JSON", (".json",), read_json),
    "lines": Format("plain lines", (".txt",), read_lines),
    "parquet": Format("Parquet", (".parquet", ".pq"), read_parquet),
    "arrow": Format("Arrow", (".arrow", ".arrows", ".feather", ".ipc"), read_arrow),
}
_BY_ENDING = {ending: name for name, form in FORMATS.items() for ending in form.endings}
COLUMNAR: frozenset[InputFormat] = frozenset(("parquet", "arrow"))
WITH_HEADERS: frozenset[InputFormat] = frozenset(("fasta", "fastq"))
WITHOUT_COLUMNS: frozenset[InputFormat] = frozenset(("fasta", "fastq", "lines"))


def format_of(source: Input, limits: Limits = DEFAULT) -> InputFormat:
    """The first bytes say it where they are sure, else the name's ending, before that of an archive or last.

    Raises:
        InputError: neither says what it is, or they contradict each other, and a guess might be wrong in
            silence.
    """
    by_name = format_by_name(source.named)
    with open_source(source, limits) as opened:
        binary = binary_format(opened, by_name)
        if binary is not None:
            return binary
        if by_name is not None and by_name in COLUMNAR:
            return by_name  # whose reader says what is wrong with it
        return _of_text(source.title, by_name, Head(opened))


def _of_text(title: str, by_name: InputFormat | None, head: Head) -> InputFormat:
    by_letter = head.by_first_letter
    if head.is_fastq:
        return "fastq"
    if by_name in ("json", "jsonl") and head.begins_json_array:
        return "json"
    if by_name in (None, "json") and by_letter in ("json", "jsonl"):
        return by_letter
    if by_name is None:
        if what := head.unread():
            raise InputError(f"{title}: {what}")
        if by_letter is None:
            raise InputError(
                f"{title}: neither its name nor its first letter says what it is; say it with "
                f"--input-format {'|'.join(FORMATS)}"
            )
        return by_letter
    if by_name in ("csv", "tsv") and by_letter == "fasta":
        raise _contradiction(title, by_name, "it begins with > as FASTA does: say --input-format fasta")
    return _of_lines(title, head) if by_name == "lines" else by_name


def _of_lines(title: str, head: Head) -> InputFormat:
    """Any text is plain lines, also one that is something else."""
    if head.by_first_letter == "fasta":
        return "fasta"
    if head.is_json_lines:
        return "jsonl"
    if what := head.why_no_lines():
        raise _contradiction(title, "lines", what)
    return "lines"


def _contradiction(title: str, by_name: InputFormat, what: str) -> InputError:
    named = FORMATS[by_name].title
    return InputError(f"{title}: its name says {named}, but {what}, or {by_name} if it is that")


def format_by_name(path: Path) -> InputFormat | None:
    name = path.name.lower()
    for ending in ENDINGS:
        name = name.removesuffix(ending)
    return _BY_ENDING.get(Path(name).suffix)


def reading(read_as: ReadAs) -> str:
    """`CSV: sequences from 'seq', ids from 'accession'`; of what has no columns its format."""
    title = FORMATS[read_as.format].title
    if read_as.sequence_column is None:
        return title
    ids = "their numbers as ids" if read_as.id_column is None else f"ids from {shown(read_as.id_column)}"
    return f"{title}: sequences from {shown(read_as.sequence_column)}, {ids}"


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
