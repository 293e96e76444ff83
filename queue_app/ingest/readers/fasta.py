"""FASTA, PIR and FASTQ, line by line: lines end as on any system, ids are UTF-8 whatever the locale says.

PIR, also called NBRF, has headers as FASTA has, then a title, then letters up to a *:

>P1;CRAB_ANAPL
ALPHA CRYSTALLIN B CHAIN.
  MDITIHNPLI RRPLFSWLAP SRIFDQIFGE*
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from queue_app.errors import InputError
from queue_app.ingest.readers.columns import Columns
from queue_app.ingest.readers.keep import DESCRIPTION
from queue_app.ingest.readers.sources import Rows, Source
from queue_app.ingest.readers.values import Row, Unusable, row_of_text, shown, writable

COMMENTS = "#;"
_PIR_HEADER = re.compile(r">(?:P1|F1|DL|DC|RL|RC|N1|N3|XX);\s*(\S*)")
_RESIDUES = re.compile("[A-Z]{25,}")
"""No title of PIR, most likely, but letters whose title is missing."""
_PIR_COMMENT = re.compile("[A-Z];")
"""What a line behind the * begins with."""


def read_fasta(source: Source, columns: Columns) -> Rows:
    """The id is the header up to the first blank, as in Biopython, and the description what stands behind it.

    Lines from # or ; on are comments.

    A record whose header is that of PIR is read as such: its title is none of its letters.
    """
    header, begin, num_read, num_passed = "", 0, 0, 0
    lines: list[str] = []
    for block in source.blocks():
        for number, line in enumerate(block, start=num_read + 1):
            line = line.strip()
            is_text = line and line[0] not in COMMENTS
            if line[:1] == ">":
                if begin:
                    yield _record(source, columns, begin, header, lines, num_passed)
                header, begin, lines, num_passed = line, number, [], 0
            elif begin and (is_text or _PIR_HEADER.match(header)):
                lines.append(line)
            elif is_text:
                what = f"not FASTA: a record begins with >, here stands {shown(line)}"
                raise _refusal(source, number, what)
        num_read += len(block)
        lines, num_passed = _folded(source, header, lines, num_passed)
    if begin:
        yield _record(source, columns, begin, header, lines, num_passed)


def _folded(source: Source, header: str, lines: list[str], num_passed: int) -> tuple[list[str], int]:
    """The lines of a record that goes on behind a block, as one: each by itself takes twice its letters.

    Those of a record that is too long are passed over, and only counted.
    """
    joined = ("\n" if _PIR_HEADER.match(header) else "").join(lines)
    num_letters = num_passed + len(joined)
    if num_passed or num_letters > source.limits.most_letters(joined):
        return [], num_letters
    return [joined] if lines else [], 0


def read_fastq(source: Source, columns: Columns) -> Rows:
    """Four lines a record; the qualities are checked for their number and left out. The id as in FASTA."""
    lines = enumerate((line.strip() for line in source.text()), start=1)
    for number, header in lines:
        if not header:
            continue
        if not header.startswith("@"):
            what = f"not FASTQ: a record begins with @, here stands {shown(header)}"
            raise _refusal(source, number, what)
        yield _named(columns, number, header, _fastq_letters(source, number, header, lines))


def _fastq_letters(source: Source, number: int, header: str, lines: Iterator[tuple[int, str]]) -> str:
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


def _record(
    source: Source, columns: Columns, number: int, header: str, lines: Sequence[str], num_passed: int
) -> Row:
    if num_passed:
        num_letters = num_passed + sum(map(len, lines))
        most = source.limits.record if num_letters > source.limits.record else source.limits.record // 4
        why = source.limits.over_letters(num_letters, most)
        return _named(columns, number, header, "")._replace(sequence=Unusable(f"{why} (line {number})"))
    if found := _PIR_HEADER.match(header):
        title, letters = _pir(source, number, header, "\n".join(lines))
        return row_of_text(number, found[1], letters, _described(columns, title))
    return _named(columns, number, header, "".join(lines))


def _named(columns: Columns, number: int, header: str, letters: str) -> Row:
    """A record whose id is the first word of its header, and what stands behind that its description."""
    name, *rest = header[1:].split(None, 1) or [""]
    row = row_of_text(number, name, letters, _described(columns, *rest))
    return row._replace(header=writable(header[1:].strip()))


def _described(columns: Columns, description: str = "") -> Mapping[str, object]:
    return {DESCRIPTION: description} if description and columns.keep.descriptions else {}


def _pir(source: Source, number: int, header: str, text: str) -> tuple[str, str]:
    """The title and the letters. Refuses a record that has the header of PIR and is none: its title might be
    its letters."""
    title, _, rest = text.partition("\n")
    letters, end, behind = rest.partition("*")
    letters = "".join(letters.split())
    if not letters or not end or _RESIDUES.fullmatch(title):
        what = (
            f"{shown(header)} begins a record of PIR, whose next line is a title and whose letters end in *; "
            "this one has no title or no *: if it is FASTA, take what ends in the ; out of its header"
        )
        raise _refusal(source, number, what)
    for line in behind.split("\n"):
        if line and not _PIR_COMMENT.match(line):
            raise _refusal(source, number, f"behind the * of a record of PIR, here stands {shown(line)}")
    return title, letters


def _refusal(source: Source, line: int, what: str) -> InputError:
    return InputError(f"{source.name}: line {line}: {what}")
