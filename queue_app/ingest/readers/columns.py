"""Which columns of a table hold ids and sequences: those of known names, or those that were asked for.

Never by their place: the second column of a stranger's table is as likely a label as a sequence.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from queue_app.errors import InputError, UsageError
from queue_app.ingest.readers.keep import Keep, refuse_twice, shown_names

SEQUENCE_COLUMNS = (
    "sequence", "seq", "text", "protein_sequence", "aa_sequence", "amino_acid_sequence", "dna_sequence",
    "rna_sequence", "nucleotide_sequence",
)  # fmt: skip
"""A table may have one of them; the one of two would be a guess."""
ID_COLUMNS = ("id", "_id", "identifier", "sequence_id", "seq_id", "protein_id", "accession", "entry", "name")
"""A table may have several; the first of these that is there is taken."""
TAB = "tab"
"""How options write the one delimiter that cannot be seen."""


@dataclass(frozen=True, slots=True)
class Columns:
    """What was asked of a table; None takes the known names, and what separates its format's fields."""

    id: str | None = None
    sequence: str | None = None
    delimiter: str | None = None
    keep: Keep = field(default_factory=Keep)

    @property
    def asked(self) -> list[str]:
        """The options that make sense with a table alone."""
        values = {"--id-column": self.id, "--sequence-column": self.sequence, "--delimiter": self.delimiter}
        return [option for option, value in values.items() if value is not None]

    @property
    def separator(self) -> str | None:
        return "\t" if self.delimiter == TAB else self.delimiter


@dataclass(frozen=True, slots=True)
class Places:
    """Where in a table they stand. `id` None: it has none, and a record's number is its id."""

    id: int | None
    sequence: int

    def names(self, header: Sequence[str]) -> tuple[str, str | None]:
        """What the columns of sequences and of ids are called."""
        return header[self.sequence], None if self.id is None else header[self.id]


def parse_delimiter(text: str) -> str:
    """One character; a tab is written `tab`, `\\t`, or as it is.

    Raises UsageError for what separates no fields.
    """
    if text in ("\t", "\\t", TAB):
        return TAB
    if len(text) != 1 or text.isalnum() or text in '"\r\n\0':
        raise UsageError(f"--delimiter {text!r}: one sign that separates fields, such as ; or | or tab")
    return text


def find_places(where: str, header: Sequence[str], columns: Columns) -> Places:
    """The columns that were asked for, else those of a known name.

    Raises:
        InputError: there is none to take the sequences from, or more than one; begins with `where`.
    """
    names = [name.strip() for name in header]
    if columns.sequence is not None:
        sequence = _asked(where, names, columns.sequence)
    else:
        sequence = _known_sequence(where, names)
    if columns.id is not None:
        return Places(_asked(where, names, columns.id), sequence)
    record_id = known_id(names)
    if record_id is not None:
        refuse_twice(where, names, names[record_id])
    return Places(None if record_id == sequence else record_id, sequence)


def known_id(names: Sequence[str]) -> int | None:
    """The place of the column whose name says that it holds ids."""
    normal = [_normal(name) for name in names]
    return next((normal.index(known) for known in ID_COLUMNS if known in normal), None)


def known_sequences(names: Sequence[str]) -> list[int]:
    """The places of all columns whose names say that they hold sequences."""
    return [place for place, name in enumerate(names) if _normal(name) in SEQUENCE_COLUMNS]


def _normal(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _known_sequence(where: str, names: Sequence[str]) -> int:
    found = known_sequences(names)
    if not found:
        raise InputError(
            f"{where}: no column of sequences by its name ({', '.join(SEQUENCE_COLUMNS[:3])}, …); it has: "
            f"{shown_names(names)}; say with --sequence-column which one it is"
        )
    refuse_twice(where, names, names[found[0]])
    if len(found) > 1:
        raise InputError(
            f"{where}: several columns of sequences by their names; it has: {shown_names(names)}; "
            f"say with --sequence-column which one of {shown_names([names[place] for place in found])} it is"
        )
    return found[0]


def _asked(where: str, names: Sequence[str], name: str) -> int:
    if name not in names:
        raise InputError(f"{where}: no column {name!r}; it has: {shown_names(names)}")
    refuse_twice(where, names, name)
    return names.index(name)
