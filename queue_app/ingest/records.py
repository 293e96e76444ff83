"""The dataset: every record of the inputs, in order, each judged; nothing is dropped in silence."""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace

from queue_app.choices import Alphabet, InputFormat
from queue_app.errors import InputError
from queue_app.ingest.alphabets import AS_IT_STANDS, judge
from queue_app.ingest.first_look import FirstLook
from queue_app.ingest.readers.bounds.limits import DEFAULT, Limits
from queue_app.ingest.readers.columns import Columns
from queue_app.ingest.readers.formats import FORMATS, WITH_HEADERS, WITHOUT_COLUMNS, format_of
from queue_app.ingest.readers.ids import Ids
from queue_app.ingest.readers.keep import DESCRIPTION, Keep
from queue_app.ingest.readers.sources import Input, open_source
from queue_app.ingest.readers.values import SHOWN_ID_CHARACTERS, Row, Unusable
from queue_app.job.shard_files import Record
from queue_app.job.spec import InputFile, ReadAs
from queue_app.model.written_sequences import TokenRules


class Dataset:
    """Iterate it once, to the end; then `inputs` says what was read, and `notes` what was noticed."""

    def __init__(
        self,
        files: Sequence[Input],
        *,
        alphabet: Alphabet,
        rules: TokenRules = AS_IT_STANDS,
        look: FirstLook | None = None,
        input_format: InputFormat | None = None,
        id_column: str | None = None,
        sequence_column: str | None = None,
        delimiter: str | None = None,
        keep: str | Sequence[str] | None = None,
        id: str | None = None,
        limits: Limits = DEFAULT,
    ) -> None:
        self.files = list(files)
        self.alphabet: Alphabet = alphabet
        self.rules = rules
        self.look = look
        self.input_format = input_format
        self.columns = Columns(id_column, sequence_column, delimiter, Keep.of(keep))
        self.ids = Ids(id)
        self.limits = limits
        self._small = min(limits.id, limits.field, limits.record // 4)
        self.inputs: tuple[InputFile, ...] = ()

    def check(self) -> None:
        """Refuse early what can be seen early: the format and the first record of each file.

        Raises:
            InputError: names the file, and the line where there is one.
        """
        forms = set()
        for file in self.files:
            form = self._format(file)
            with open_source(file, self.limits) as source:
                next(FORMATS[form].read(source, self.columns), None)
            forms.add(form)
        if self.columns.asked and forms <= WITHOUT_COLUMNS:
            raise InputError(f"{self.columns.asked[0]}: none of the inputs is a table; see --input-format")
        self._refuse_unkept(forms)

    def _refuse_unkept(self, forms: Set[InputFormat]) -> None:
        keep, described = self.columns.keep, bool(forms & WITH_HEADERS)
        if {*keep.asked} - ({DESCRIPTION} if described else set()) and forms <= WITHOUT_COLUMNS:
            has = f"headers have a {DESCRIPTION}" if described else "plain lines have nothing to keep"
            raise InputError(f"{keep.option}: none of the inputs is a table; {has}")

    def __iter__(self) -> Iterator[Record]:
        """Raises InputError, also where most cannot be embedded; what was yielded counts for nothing then."""
        inputs, ordinal = [], 0
        for file in self.files:
            first = ordinal
            form = self._format(file)
            with open_source(file, self.limits) as source:
                for row in FORMATS[form].read(source, self.columns):
                    yield self._record(ordinal, row)
                    ordinal += 1
                inputs.append(replace(source.file(), read_as=ReadAs(form, *source.taken)))
            if ordinal == first:
                raise InputError(f"{file.title}: no records in it")
        if self.look:
            self.look.refuse_hopeless()
        self.ids.refuse_unfound()
        self.inputs = tuple(inputs)

    def _record(self, ordinal: int, row: Row) -> Record:
        name, raw = self.ids.of(row), row.sequence
        if isinstance(raw, Unusable):
            return self._unusable(ordinal, name, row)
        # A header has the description in it. Most records are small, and asked nothing more.
        beside = self._small if row.header is None and row.kept else len(row.header or "")
        if len(raw) + len(name) + beside >= self._small and self._is_over(name, raw, row.kept):
            return self._unusable(ordinal, name, row)
        sequence, problem = judge(raw, self.alphabet, self.rules)
        if self.look:
            self.look.add(name, raw, sequence, problem)
        return Record(ordinal, name, sequence, problem, row.kept)

    def _is_over(self, name: str, sequence: str, kept: Mapping[str, object]) -> bool:
        limits = self.limits
        is_long = len(sequence) > limits.most_letters(sequence)
        return is_long or len(name) > limits.id or _longest(kept) > limits.field

    def _unusable(self, ordinal: int, name: str, row: Row) -> Record:
        """What is too long for a record to have is left out; of an id its beginning stays."""
        limits, kept, problem = self.limits, row.kept, None
        if isinstance(row.sequence, Unusable):
            problem = row.sequence.reason
        elif len(row.sequence) > (most := limits.most_letters(row.sequence)):
            problem = limits.over_letters(len(row.sequence), most)
        if (longest := _longest(kept)) > limits.field:
            kept, problem = (
                {},
                problem or f"a value beside it of {limits.over('field', longest, 'characters')}",
            )
        if len(name) > limits.id:
            problem = problem or f"an id of {limits.over('id', len(name), 'characters')}"
            name = f"{name[:SHOWN_ID_CHARACTERS]}…"
        return Record(ordinal, name, "", problem, kept)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was noticed about the records beside what quarantines one."""
        return (*(self.look.notes() if self.look else ()), *self.ids.notes())

    def _format(self, file: Input) -> InputFormat:
        form = self.input_format or format_of(file, self.limits)
        if form == "lines" and self.columns.asked:
            raise InputError(
                f"{file.title}: plain lines have no columns, as {self.columns.asked[0]} asks for; "
                "if it is a table, say --input-format csv or tsv"
            )
        return form


def _longest(kept: Mapping[str, object]) -> int:
    """Characters of the longest text that stays with a record."""
    return max([len(value) for value in kept.values() if isinstance(value, str | bytes)], default=0)


def looks_like_fasta(files: Sequence[Input], input_format: InputFormat | None, limits: Limits) -> bool:
    """True when every input is FASTA, as was said, by name or by first letter."""
    return all((input_format or format_of(file, limits)) == "fasta" for file in files)
