"""A look at some of the records while they are read: are they what the model was made for?

The first thousand and ever fewer of those behind are looked at, chosen by a fixed chance: equal inputs are
judged alike, and the look costs a bounded time. A record that was chosen stands for those around it.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

from queue_app.choices import Alphabet
from queue_app.errors import InputError
from queue_app.ingest.unknown_tokens import CountUnknown, count_unknown_of
from queue_app.job.quarantine_reasons import is_mostly_unknown
from queue_app.model.spec import FoundModel
from queue_app.shown import visible
from queue_app.wording import percent

FIRST = 1_000
ID_CHARACTERS = 60
CHARACTERS = 2_000
"""How much of a record is looked at."""
ILLEGAL_LEAST = 10
"""Among fewer records, some that are quarantined for their letters are no sign."""
LETTERS_LEAST = 60
SHARE_LEAST = 0.95
RARE_SHARE = 0.03
"""O and U among the letters: proteins hardly have them, English has three times as many."""
_NO_LETTERS = re.compile("[^A-Z]+")
_RESIDUES = re.compile("[A-Z*-]{31,}")
READS: Mapping[Alphabet, str] = {"protein": "proteins", "dna": "DNA", "rna": "RNA", "text": "texts"}


@dataclass(slots=True)
class _Letters:
    """What the records are written in, as they were read."""

    counts: Counter[str] = field(default_factory=Counter)
    num_texts: int = 0
    num_like_residues: int = 0

    def add(self, raw: str) -> None:
        self.counts.update(_NO_LETTERS.sub("", raw.upper()))
        self.num_texts += 1
        self.num_like_residues += _RESIDUES.fullmatch(raw.strip()) is not None

    def share(self, letters: str) -> float:
        return sum(self.counts[letter] for letter in letters) / self.counts.total()


@dataclass(slots=True)
class FirstLook:
    """Give it every record as it is read; then ask what was seen.

    Records without any letter are nobody's fault here: they are quarantined whatever the model is.
    """

    model: FoundModel
    alphabet: Alphabet
    num_chosen: int = 0
    _step: int = 1
    """How many records one that was chosen stands for; the three below are sums of it."""
    _num_records: int = 0
    _num_unknown: int = 0
    _num_illegal: int = 0
    _letters: _Letters = field(default_factory=_Letters)
    _example: str = ""
    _random: Random = field(default_factory=lambda: Random(0), compare=False)
    _count: CountUnknown | None = field(init=False, compare=False)

    def __post_init__(self) -> None:
        self._count = count_unknown_of(self.model)

    def add(self, record_id: str, raw: str, sequence: str, problem: str | None) -> None:
        """`problem` says why the `sequence` that `raw` was judged to be cannot be embedded.

        Raises InputError when every one of the first thousand would be quarantined.
        """
        if self._step > 1 and self._random.random() * self._step >= 1:
            return
        self.num_chosen += 1
        self._num_records += self._step
        self._letters.add(raw[:CHARACTERS])
        reason = self._why_set_aside(sequence, problem)
        if reason and not self._example:
            self._example = f"the first is {visible(record_id, ID_CHARACTERS) or '(no id)'}: {reason}"
        if self.num_chosen % FIRST == 0:
            if self._step == 1 and self._num_set_aside == FIRST:
                raise self._refusal()
            self._step *= 2

    def refuse_hopeless(self) -> None:
        """Raises InputError when the job would quarantine most of its records."""
        by_chance = self.num_chosen < ILLEGAL_LEAST and self._num_illegal > self._num_unknown
        if 2 * self._num_set_aside > self._num_records and not by_chance:
            raise self._refusal()

    def notes(self) -> tuple[str, ...]:
        """A line where the records look like something else than the model reads."""
        spec = self.model.spec
        looks = _looks_like(self._letters, spec.alphabet)
        if looks is None or spec.family == "mock":
            return ()
        kind, sign = looks
        return (f"the records look like {kind} ({sign}), and {spec.name} reads {READS[spec.alphabet]}",)

    @property
    def _num_set_aside(self) -> int:
        return self._num_unknown + self._num_illegal

    def _why_set_aside(self, sequence: str, problem: str | None) -> str | None:
        if problem is not None:
            self._num_illegal += self._step if sequence else 0
            return problem if sequence else None
        if self._count is None:
            return None
        num_unknown, num_tokens = self._count(sequence[:CHARACTERS])
        if not is_mostly_unknown(num_unknown, num_tokens):
            return None
        self._num_unknown += self._step
        return f"{num_unknown:,} of {num_tokens:,} tokens are unknown to the model"

    def _refusal(self) -> InputError:
        share = percent(self._num_set_aside / self._num_records)
        return InputError(f"{share} of the records would be quarantined ({self._example}); {self._remedy()}")

    def _remedy(self) -> str:
        spec = self.model.spec
        if self.alphabet != spec.alphabet and spec.family != "mock":
            return f"leave out --alphabet {self.alphabet}: {spec.name} reads {READS[spec.alphabet]}"
        if notes := self.notes():
            return f"{notes[0]}: choose a model for them, or see --alphabet and --rules"
        how = spec.tokens.rules.name
        written = "as they stand" if how == "plain" else f"by the rules {how!r}"
        return (
            f"they are read as {READS[self.alphabet]} and given to {spec.name} {written}: see --alphabet and "
            "--rules, or choose a model for them"
        )


def _looks_like(letters: _Letters, reads: Alphabet) -> tuple[str, str] | None:
    """What the records look like, if it is not what is read, and by what sign."""
    if letters.counts.total() < LETTERS_LEAST:
        return None
    whole = letters.num_like_residues >= SHARE_LEAST * letters.num_texts
    bases = letters.share("ACGTUN")
    if bases >= SHARE_LEAST and (whole or reads != "text"):
        kind = "RNA" if letters.counts["U"] > letters.counts["T"] else "DNA"
        return None if kind == READS[reads] else (kind, f"{percent(bases)} of the letters are A C G T U N")
    if reads == "text":
        return ("proteins", "upper-case letters without blanks") if whole else None
    if (rare := letters.share("OU")) >= RARE_SHARE:
        return "text", f"{percent(rare)} of the letters are O or U"
    if reads != "protein" and whole:
        return "proteins", f"only {percent(bases)} of the letters are A C G T U N"
    return None
