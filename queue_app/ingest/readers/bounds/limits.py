"""What one input may ask of the reader: more than real data does, and so little that none fills the memory.

With these limits no file takes more than 512 MiB, beside some tens of bytes for each of its records. Each
has a name, under which `--limit` raises it.
"""

from dataclasses import asdict, dataclass, fields, replace

OPTION = "--limit"
TOKENIZED_LETTERS = 4 << 20
"""Of a record that a tokenizer reads: it takes some 300 bytes a character, a table of letters four."""
LINE_BYTES_LEAST = 40 << 20
"""A longer line is no sequence and no text, but would fill the memory: gigabytes hide in a small gzip."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The most of each. A record over one of the first three is quarantined, a file over another refused."""

    record: int = 32 << 20
    """Letters of a sequence, or characters of a text: four times as many bytes hold any of them."""
    id: int = 4096
    """Characters."""
    field: int = 1 << 20
    """Characters of a description, or of another value that stays with a record."""
    values: int = 250_000
    """Fields of one row of a table, or values of one record of JSON, where these are longer than a MiB."""
    nesting: int = 100
    """Lists and objects of JSON, one within the other."""
    expansion: int = 1_000
    """Bytes that come out of a packed one, over a whole archive."""
    window: int = 128 << 20
    """Bytes that an archive may refer back to, and its reader has to keep: zstd's own limit."""
    files: int = 100_000
    """That a directory or a pattern stands for."""

    @property
    def line(self) -> int:
        """Bytes of a line, of a row of a table, or of a record of JSON."""
        return max(LINE_BYTES_LEAST, self.record + self.record // 4)

    @property
    def wide_line(self) -> int:
        """The same where one of its characters takes four bytes in memory: then each of them does."""
        return self.line * 2 // 5

    def most_letters(self, text: str) -> int:
        """Of a record of such letters: of others than those of ASCII each may take four bytes in memory."""
        return self.record if text.isascii() else max(self.record // 4, min(self.record, TOKENIZED_LETTERS))

    def over(self, name: str, found: int, what: str) -> str:
        """Why something is too large, and the option that takes it. `what` is counted, as `letters` are."""
        most: int = getattr(self, name)
        return f"{found:,} {what}, more than {most:,}: {OPTION} {name}={found} takes it"

    def over_letters(self, found: int, most: int) -> str:
        """The same of a record, of which `most` letters are taken."""
        if most == self.record:
            return self.over("record", found, "letters")
        why = f"{found:,} letters, not all of ASCII, more than {most:,}"
        return f"{why}: {OPTION} record={4 * found} takes it"

    def more_than(self, name: str, what: str) -> str:
        """The same where nobody counts to the end."""
        most: int = getattr(self, name)
        return f"more than {most:,} {what}: {OPTION} {name}={2 * most} allows twice as many"


DEFAULT = Limits()
NAMES = tuple(each.name for each in fields(Limits))


def limits_of(text: str | None, *, is_tokenized: bool = False) -> Limits:
    """The limits of a job. `is_tokenized`: a tokenizer reads its records, and no table of letters."""
    asked = dict(part.split("=") for part in text.split(",")) if text else {}
    begun = replace(DEFAULT, record=TOKENIZED_LETTERS) if is_tokenized else DEFAULT
    return Limits(**{**asdict(begun), **{name: int(number) for name, number in asked.items()}})
