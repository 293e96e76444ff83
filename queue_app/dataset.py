"""The dataset: every record of the inputs, in order, each judged; nothing is dropped in silence."""

import re
import string
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash

from queue_app.errors import InputError
from queue_app.formats import Columns, read_fasta, reader_of
from queue_app.job import Alphabet, DatasetCounts, InputFile
from queue_app.sources import digest_file, open_source

EMPTY = "empty sequence"
_ILLEGAL = {
    "protein": re.compile("[^A-Z]"),
    "dna": re.compile("[^ACGTUNRYSWKMBDHV]"),
}


# str.upper would turn ß into SS, and so hide it.
_UPPER_WITHOUT_BLANKS = str.maketrans(string.ascii_lowercase, string.ascii_uppercase, " \t\r")


@dataclass(frozen=True, slots=True)
class Record:
    """One record. `ordinal` is its place over all inputs; `problem` says why it cannot be embedded."""

    ordinal: int
    id: str
    sequence: str
    problem: str | None = None


class Dataset:
    """Iterate it once, to the end; then `inputs` and `counts` say what was read."""

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        alphabet: Alphabet,
        id_column: str | None = None,
        sequence_column: str | None = None,
    ) -> None:
        self.paths = list(paths)
        self.alphabet: Alphabet = alphabet
        self.columns = Columns(id_column, sequence_column)
        self.inputs: tuple[InputFile, ...] = ()
        self.counts = DatasetCounts(0, 0, 0, 0)

    def check(self) -> None:
        """Refuse early what can be seen early: names, and the first record of each file.

        Raises:
            InputError: names the file, and the line where there is one.
        """
        check_names(self.paths)
        for path in self.paths:
            with open_source(path) as source:
                next(reader_of(path)(source, self.columns), None)

    def __iter__(self) -> Iterator[Record]:
        """Raises InputError; what was yielded before counts for nothing then."""
        ids, sequences, num_rejected, ordinal = array("Q"), array("Q"), 0, 0
        inputs = []
        for path in self.paths:
            first = ordinal
            with open_source(path) as source:
                for record_id, raw in reader_of(path)(source, self.columns):
                    sequence, problem = judge(raw, self.alphabet)
                    yield Record(ordinal, record_id, sequence, problem)
                    ids.append(xxhash.xxh3_64_intdigest(record_id.encode()))
                    sequences.append(xxhash.xxh3_64_intdigest(sequence.encode()))
                    num_rejected += problem is not None
                    ordinal += 1
                inputs.append(source.file())
            if ordinal == first:
                raise InputError(f"{path}: no records in it")
        self.inputs = tuple(inputs)
        self.counts = DatasetCounts(ordinal, num_rejected, _num_repeats(ids), _num_repeats(sequences))


def judge(raw: str, alphabet: Alphabet) -> tuple[str, str | None]:
    """The sequence as it will be embedded, and what is wrong with it.

    Proteins: upper case, blanks left out; one `*` at the end (the stop) is dropped; the 20 letters and
    B X Z U O J. DNA: upper case, blanks left out; the IUPAC codes. Text: as it stands, but not blank.
    """
    if alphabet == "text":
        return raw, None if raw.strip() else EMPTY
    sequence = raw.translate(_UPPER_WITHOUT_BLANKS)
    if alphabet == "protein":
        sequence = sequence.removesuffix("*")
    if not sequence:
        return sequence, EMPTY
    illegal = _ILLEGAL[alphabet].search(sequence)
    if illegal is None:
        return sequence, None
    return (
        sequence,
        f"illegal letter {illegal[0]!r} at position {illegal.start() + 1} of a {alphabet} sequence",
    )


def check_names(paths: Sequence[Path]) -> None:
    """Raises InputError for what is no readable file, is empty, or shares its name with another input."""
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: no such file")
        if path.is_dir():
            raise InputError(f"{path}: a directory; name the files in it, as in {path}/*.fasta")
        if path.is_file() and path.stat().st_size == 0:
            raise InputError(f"{path}: an empty file")
    repeated = [name for name, count in Counter(path.name for path in paths).items() if count > 1]
    if repeated:
        same = ", ".join(str(path) for path in paths if path.name == repeated[0])
        raise InputError(
            f"two inputs have the same name ({same}): the output could not tell them apart; rename one"
        )


def digest_inputs(paths: Sequence[Path]) -> tuple[InputFile, ...]:
    """Hash the inputs without parsing them. Raises InputError when one cannot be read."""
    return tuple(digest_file(path) for path in paths)


def looks_like_fasta(paths: Sequence[Path]) -> bool:
    """True when every input is FASTA, by name or first letter."""
    check_names(paths)
    return all(reader_of(path) is read_fasta for path in paths)


def _num_repeats(hashes: "array[int]") -> int:
    """How many values stood there before. Eight bytes a record, where a set would take sixty."""
    values = np.frombuffer(hashes, dtype=np.uint64) if len(hashes) else np.empty(0, np.uint64)
    return len(values) - len(np.unique(values))
