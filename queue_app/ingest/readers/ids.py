"""What the id of a record is made of: a header's first word, all of it, the accession in it, or what an
expression finds."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from queue_app.errors import InputError, UsageError
from queue_app.ingest.readers.values import Row, shown

FIRST = 1_000
"""An expression that finds nothing in so many is wrong."""
_ACCESSION = re.compile(
    r"(?:[OPQ][0-9][A-Z0-9]{3}[0-9]|[A-NR-Z][0-9](?:[A-Z][A-Z0-9]{2}[0-9]){1,2})(?:-\d+|\.\d+)?"  # UniProt
    r"|UPI[0-9A-F]{10}"
    r"|[A-Z]{2}_\d{6,9}(?:\.\d+)?"  # RefSeq
    r"|(?:[A-Z]{3}\d{5,7}|[A-Z]\d{5}|[A-Z]{2}\d{6,8}|[A-Z]{4,6}\d{8,})(?:\.\d+)?"  # INSDC
    r"|ENS[A-Z]*[EGPRT]\d{11}(?:\.\d+)?"
    r"|\d[A-Za-z0-9]{3}(?:[_:.-]\w{1,4})?"  # PDB, with a chain
)
"""https://www.uniprot.org/help/accession_numbers, https://www.ncbi.nlm.nih.gov/genbank/acc_prefix/"""
_CLUSTER = re.compile(r"UniRef(?:100|90|50)_")
_TAGS = frozenset(("sp", "tr", "ref", "gb", "emb", "dbj", "tpg", "tpe", "tpd", "pir", "prf"))
"""Behind these an accession follows: https://en.wikipedia.org/wiki/FASTA_format#NCBI_identifiers"""


def accession(record_id: str) -> str | None:
    """The accession in an id; None where there is none that is known.

    `P12345` of `sp|P12345|AATM_RABIT` and of `UniRef50_P12345`, `NP_000001.1` of `gi|4|ref|NP_000001.1|` and
    of itself, `1ABC_A` of `pdb|1ABC|A`.
    """
    first, *fields = record_id.split("|")
    first = _CLUSTER.sub("", first)
    if _ACCESSION.fullmatch(first):
        return first
    for tag, found, chain in zip([first, *fields], fields, [*fields[1:], ""], strict=False):
        if tag == "pdb" and found:
            return f"{found}_{chain}" if chain else found
        if tag in _TAGS and found:
            return found
    return None


def parse_id(text: str) -> str:
    """`accession`, `full`, or a regular expression. Raises UsageError for what is none."""
    try:
        re.compile(text)
    except re.error as error:
        raise UsageError(
            f"--id {text}: accession, full, or a regular expression, which it is not ({error})"
        ) from None
    return text


@dataclass(slots=True)
class Ids:
    """The ids of a job's records; those in which nothing is found stay as they are, and are counted."""

    rule: str | None
    _num_found: int = 0
    _num_unfound: int = 0
    _example: str = ""
    _find: Callable[[str, str], str | None] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        by_name = {None: lambda _, name: name, "full": lambda text, name: text, "accession": _accession_in}
        self._find = by_name.get(self.rule) or _Expression(re.compile(self.rule or ""))

    def of(self, row: Row) -> str:
        """Raises InputError when an expression found nothing in the first thousand."""
        if self.rule is None:
            return row.id
        found = self._find(row.id if row.header is None else row.header, row.id)
        if found:
            self._num_found += 1
            return found
        self._num_unfound += 1
        self._example = self._example or (row.header or row.id)
        if self._num_unfound == FIRST:
            self.refuse_unfound()
        return row.id

    def refuse_unfound(self) -> None:
        """Raises InputError when an expression has found nothing at all."""
        if self._num_unfound and not self._num_found and self.rule not in ("full", "accession"):
            raise InputError(
                f"--id {self.rule}: matches none of the records; the first is {shown(self._example)}"
            )

    def notes(self) -> tuple[str, ...]:
        """A line where ids stayed as they are."""
        if not self._num_unfound or self.rule == "full":
            return ()
        total = self._num_found + self._num_unfound
        unfound = f"{self._num_unfound:,} of {total:,} records, which keep their ids"
        return (f"--id {self.rule} found nothing in {unfound} (the first: {shown(self._example)})",)


def _accession_in(_: str, name: str) -> str | None:
    return accession(name)


@dataclass(frozen=True, slots=True)
class _Expression:
    """Its first group, or where it has none all that it matches."""

    pattern: "re.Pattern[str]"

    def __call__(self, text: str, _: str) -> str | None:
        found = self.pattern.search(text)
        return found and found[1 if self.pattern.groups else 0]
