"""The input formats: how each is told, and who reads it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from queue_app.archives import ENDINGS
from queue_app.columnar import (
    ARROW_FILE_MAGIC,
    ARROW_STREAM_MAGIC,
    PARQUET_MAGIC,
    read_arrow,
    read_parquet,
)
from queue_app.columns import Columns
from queue_app.errors import InputError
from queue_app.fasta import read_fasta, read_fastq
from queue_app.job import InputFormat
from queue_app.json_lines import read_json_lines
from queue_app.sources import Input, Pairs, Source, open_source
from queue_app.tables import read_csv, read_tsv


@dataclass(frozen=True, slots=True)
class Format:
    """`endings` are the names it goes by; before an archive's ending, too, where it is text."""

    title: str
    endings: tuple[str, ...]
    read: Callable[[Source, Columns], Pairs]


def read_lines(source: Source, columns: Columns) -> Pairs:
    """One text a line; its id is the line's number."""
    for number, line in enumerate(source.text(), start=1):
        yield str(number), line.rstrip("\r\n")


FORMATS: Mapping[InputFormat, Format] = {
    "fasta": Format("FASTA", (".fasta", ".fa", ".faa", ".fna", ".ffn", ".fas"), read_fasta),
    "fastq": Format("FASTQ", (".fastq", ".fq"), read_fastq),
    "csv": Format("CSV", (".csv",), read_csv),
    "tsv": Format("TSV", (".tsv",), read_tsv),
    "jsonl": Format("JSON lines", (".jsonl", ".ndjson"), read_json_lines),
    "lines": Format("plain lines", (".txt",), read_lines),
    "parquet": Format("Parquet", (".parquet", ".pq"), read_parquet),
    "arrow": Format("Arrow", (".arrow", ".arrows", ".feather", ".ipc"), read_arrow),
}
_BY_ENDING = {ending: name for name, form in FORMATS.items() for ending in form.endings}
_BY_MAGIC: Mapping[bytes, InputFormat] = {
    PARQUET_MAGIC: "parquet", ARROW_FILE_MAGIC: "arrow", ARROW_STREAM_MAGIC: "arrow"
}  # fmt: skip
_BY_FIRST_LETTER: Mapping[str, InputFormat] = {">": "fasta", "@": "fastq", "{": "jsonl"}
_BEFORE_FIRST_LETTER = "\ufeff \t\r\n"


def format_of(source: Input) -> InputFormat:
    """By the name's ending, with or without that of an archive; else by the first bytes.

    Raises:
        InputError: neither says what it is, and a guess might be wrong in silence.
    """
    by_name = format_by_name(source.named)
    if by_name is not None:
        return by_name
    with open_source(source) as opened:
        found = _by_content(opened)
    if found is None:
        raise InputError(
            f"{source.title}: neither its name nor its first letter says what it is; say it with "
            f"--input-format {'|'.join(FORMATS)}"
        )
    return found


def format_by_name(path: Path) -> InputFormat | None:
    name = path.name.lower()
    for ending in ENDINGS:
        name = name.removesuffix(ending)
    return _BY_ENDING.get(Path(name).suffix)


def _by_content(source: Source) -> InputFormat | None:
    for magic, name in _BY_MAGIC.items():
        if source.magic.startswith(magic):
            return name
    first = source.binary.peek(1)[:64].decode(errors="replace").lstrip(_BEFORE_FIRST_LETTER)[:1]
    return _BY_FIRST_LETTER.get(first)
