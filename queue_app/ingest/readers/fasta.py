"""FASTA and FASTQ, line by line: lines end as on any system, and ids are UTF-8 whatever the locale says."""

from collections.abc import Iterator
from itertools import islice

from queue_app.errors import InputError
from queue_app.ingest.readers import pir
from queue_app.ingest.readers.columns import Columns
from queue_app.ingest.readers.sources import Pairs, Source, shown
from queue_app.ingest.readers.values import Unusable, pair_of_text

COMMENTS = "#;"


def read_fasta(source: Source, columns: Columns) -> Pairs:
    """The id is the header up to the first blank, as in Biopython. Lines from # or ; on are comments.

    A record whose header is that of PIR is read as such: its title is none of its letters.
    """
    header, begin, is_pir = "", 0, False
    lines: list[str] = []
    for number, line in enumerate(source.text(), start=1):
        line = line.strip()
        first = line[:1]
        if first == ">":
            if is_pir:
                yield _of_pir(source, begin, header, lines)
            elif begin:
                yield pair_of_text(begin, _id(header), "".join(lines))
            header, begin, lines = line, number, []
            is_pir = pir.is_header(line)
        elif begin and (is_pir or (first and first not in COMMENTS)):
            lines.append(line)
        elif first and first not in COMMENTS:
            what = f"not FASTA: a record begins with >, here stands {shown(line)}"
            raise _refusal(source, number, what)
    if is_pir:
        yield _of_pir(source, begin, header, lines)
    elif begin:
        yield pair_of_text(begin, _id(header), "".join(lines))


def _of_pir(source: Source, line: int, header: str, lines: list[str]) -> tuple[str, str | Unusable]:
    try:
        return pair_of_text(line, *pir.parse(header, lines))
    except pir.NotPir as error:
        raise _refusal(source, line, str(error)) from None


def read_fastq(source: Source, columns: Columns) -> Pairs:
    """Four lines a record; the qualities are checked for their number and left out. The id as in FASTA."""
    lines = enumerate((line.strip() for line in source.text()), start=1)
    for number, header in lines:
        if not header:
            continue
        if not header.startswith("@"):
            what = f"not FASTQ: a record begins with @, here stands {shown(header)}"
            raise _refusal(source, number, what)
        yield pair_of_text(number, _id(header), _sequence(source, number, header, lines))


def _sequence(source: Source, number: int, header: str, lines: Iterator[tuple[int, str]]) -> str:
    rest = [line for _, line in islice(lines, 3)]
    if len(rest) < 3:
        raise _refusal(source, number, "cut off: the last record has less than four lines")
    sequence, plus, qualities = rest
    if plus not in ("+", f"+{header[1:]}"):
        what = f"not FASTQ, four lines a record: the third is a +, here stands {shown(plus)}"
        raise _refusal(source, number + 2, what)
    if len(qualities) != len(sequence):
        raise _refusal(source, number, f"a record of {len(sequence)} letters and {len(qualities)} qualities")
    return sequence


def _id(header: str) -> str:
    words = header[1:].split(None, 1)
    return words[0] if words else ""


def _refusal(source: Source, line: int, what: str) -> InputError:
    return InputError(f"{source.name}: line {line}: {what}")
