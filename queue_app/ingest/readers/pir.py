"""PIR, also called NBRF: headers as in FASTA, then a title, then letters up to a *.

>P1;CRAB_ANAPL
ALPHA CRYSTALLIN B CHAIN.
  MDITIHNPLI RRPLFSWLAP SRIFDQIFGE*
"""

import re
from collections.abc import Sequence

_HEADER = re.compile(r">(?:P1|F1|DL|DC|RL|RC|N1|N3|XX);\s*(\S*)")
_RESIDUES = re.compile("[A-Z]{25,}")
"""No title, most likely, but letters whose title is missing."""
_COMMENT = re.compile("[A-Z];")
"""What a line behind the * begins with."""


class NotPir(Exception):
    """Raised when a record has the header of PIR and is none: its title might be its letters."""


def is_header(line: str) -> bool:
    return line[3:4] == ";" and _HEADER.match(line) is not None


def parse(header: str, lines: Sequence[str]) -> tuple[str, str]:
    """Code and letters of a record. Raises NotPir."""
    found = _HEADER.match(header)
    code = found[1] if found else ""
    title, rest = (lines[0], lines[1:]) if lines else ("", [])
    letters, end, behind = "\n".join(rest).partition("*")
    letters = "".join(letters.split())
    if not letters or not end or _RESIDUES.fullmatch(title):
        raise NotPir(
            f"{header[:40]!r} begins a record of PIR, whose next line is a title and whose letters end in *; "
            "this one has no title or no *: if it is FASTA, take what ends in the ; out of its header"
        )
    for line in behind.split("\n"):
        if line and not _COMMENT.match(line):
            raise NotPir(f"behind the * of a record of PIR, here stands {line[:40]!r}")
    return code, letters
