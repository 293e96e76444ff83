"""The dataset: every record of the inputs, in order, each judged; nothing is dropped in silence."""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import xxhash

from queue_app.alphabets import judge
from queue_app.columns import Columns
from queue_app.errors import InputError
from queue_app.formats import FORMATS, format_of
from queue_app.job import DatasetCounts, InputFile, InputFormat
from queue_app.model_spec import Alphabet
from queue_app.sources import Input, Pairs, Source, digest_file, open_source


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
        files: Sequence[Input],
        *,
        alphabet: Alphabet,
        input_format: InputFormat | None = None,
        id_column: str | None = None,
        sequence_column: str | None = None,
    ) -> None:
        self.files = list(files)
        self.alphabet: Alphabet = alphabet
        self.input_format = input_format
        self.columns = Columns(id_column, sequence_column)
        self.inputs: tuple[InputFile, ...] = ()
        self.counts = DatasetCounts(0, 0, 0, 0)

    def check(self) -> None:
        """Refuse early what can be seen early: the format and the first record of each file.

        Raises:
            InputError: names the file, and the line where there is one.
        """
        for file in self.files:
            with open_source(file) as source:
                next(self._pairs(file, source), None)

    def __iter__(self) -> Iterator[Record]:
        """Raises InputError; what was yielded before counts for nothing then."""
        ids, sequences, num_rejected, ordinal = array("Q"), array("Q"), 0, 0
        inputs = []
        for file in self.files:
            first = ordinal
            with open_source(file) as source:
                for record_id, raw in self._pairs(file, source):
                    sequence, problem = judge(raw, self.alphabet)
                    yield Record(ordinal, record_id, sequence, problem)
                    ids.append(xxhash.xxh3_64_intdigest(record_id.encode()))
                    sequences.append(xxhash.xxh3_64_intdigest(sequence.encode()))
                    num_rejected += problem is not None
                    ordinal += 1
                inputs.append(source.file())
            if ordinal == first:
                raise InputError(f"{file.title}: no records in it")
        self.inputs = tuple(inputs)
        self.counts = DatasetCounts(ordinal, num_rejected, _num_repeats(ids), _num_repeats(sequences))

    def _pairs(self, file: Input, source: Source) -> Pairs:
        return FORMATS[self.input_format or format_of(file)].read(source, self.columns)


def digest_inputs(files: Sequence[Input]) -> tuple[InputFile, ...]:
    """Hash the inputs without parsing them. Raises InputError when one cannot be read."""
    return tuple(digest_file(file) for file in files)


def looks_like_fasta(files: Sequence[Input], input_format: InputFormat | None) -> bool:
    """True when every input is FASTA, as was said, by name or by first letter."""
    return all((input_format or format_of(file)) == "fasta" for file in files)


def _num_repeats(hashes: "array[int]") -> int:
    """How many values stood there before. Eight bytes a record, where a set would take sixty."""
    values = np.frombuffer(hashes, dtype=np.uint64) if len(hashes) else np.empty(0, np.uint64)
    return len(values) - len(np.unique(values))
