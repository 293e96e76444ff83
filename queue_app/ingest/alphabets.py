"""Alphabets: what of a record is embedded, and what quarantines it. docs/file_formats.md has the rules.

A model reads letters that it has no token for as unknown; here only what is no letter at all is quarantined.
"""

import re
import string
from collections.abc import Mapping

from queue_app.choices import Alphabet
from queue_app.model.written_sequences import TokenRules

EMPTY = "empty sequence"
AS_IT_STANDS = TokenRules()
GAPS = "-."
"""ESM-2 has tokens for gaps of an alignment but was not trained on them, and whether a gap is nothing or
something unknown only the user can say."""
STOP = "*"

# str.upper would turn ß into SS, and so hide it.
_UPPER_WITHOUT_BLANKS = str.maketrans(string.ascii_lowercase, string.ascii_uppercase, " \t\r\n")
# A model of DNA has no token for U, and one of RNA none for T.
_CLEAN: Mapping[str, Mapping[int, int | str | None]] = {
    "protein": _UPPER_WITHOUT_BLANKS,
    "dna": {**_UPPER_WITHOUT_BLANKS, ord("u"): "T", ord("U"): "T"},
    "rna": {**_UPPER_WITHOUT_BLANKS, ord("t"): "U", ord("T"): "U"},
}
_LETTERS = {
    "protein": re.compile("[A-Z]+"),
    "dna": re.compile("[ACGTRYSWKMBDHVN]+"),
    "rna": re.compile("[ACGURYSWKMBDHVN]+"),
}


def judge(raw: str, alphabet: Alphabet, rules: TokenRules = AS_IT_STANDS) -> tuple[str, str | None]:
    """The sequence as it will be embedded, and what is wrong with it. `rules` are those of the model.

    Two families take sequences that are written in their words already: for a model of k-mers blanks part
    words of k letters, and for SaProt a residue and its 3Di letter are a pair, whose case tells them apart.
    """
    if alphabet == "text":
        return raw, None if raw.strip() else EMPTY
    letters = _LETTERS[alphabet]
    if letters.fullmatch(raw):
        # As most are, which spares a third of the time that reading takes.
        return raw, _uncuttable(raw, rules) if rules.kmer else None
    if rules.kmer and len(words := raw.split()) > 1:
        return _judge_words(words, alphabet, rules)
    if rules.behind and rules.is_written(pairs := "".join(raw.split())):
        return pairs, None
    sequence = raw.translate(_CLEAN[alphabet])
    if alphabet == "protein":
        sequence = sequence.removesuffix(STOP)
    if not sequence:
        return sequence, EMPTY
    legal = letters.match(sequence)
    num_legal = legal.end() if legal else 0
    if num_legal == len(sequence):
        return sequence, _uncuttable(sequence, rules)
    return sequence, _problem(sequence[num_legal], num_legal + 1, alphabet)


def _judge_words(words: list[str], alphabet: Alphabet, rules: TokenRules) -> tuple[str, str | None]:
    """A record with blanks within, for a model of k-mers."""
    words = [word.translate(_CLEAN[alphabet]) for word in words]
    sequence, position = " ".join(words), 1
    for word in words:
        legal = _LETTERS[alphabet].match(word)
        num_legal = legal.end() if legal else 0
        if num_legal < len(word):
            return sequence, _problem(word[num_legal], position + num_legal, alphabet)
        if len(word) != rules.kmer:
            return sequence, (
                f"a word of other than {rules.kmer} letters at position {position}, which the model cannot "
                "read: blanks must part words of so many letters, or be left out"
            )
        position += len(word) + 1
    return sequence, None


def _uncuttable(sequence: str, rules: TokenRules) -> str | None:
    """Why the model's words cannot be cut from a sequence without blanks."""
    if not rules.kmer:
        return None
    if len(sequence) < rules.kmer:
        return f"shorter than the {rules.kmer} letters of the model's shortest word"
    if (len(sequence) - rules.kmer) % rules.stride:
        return f"letters left over behind the last whole word of {rules.kmer}, as the model reads them"
    return None


def _problem(letter: str, position: int, alphabet: Alphabet) -> str:
    if letter in GAPS:
        return f"gap {letter!r} at position {position} of an aligned sequence: take its gaps out first"
    if letter == STOP and alphabet == "protein":
        return f"stop {letter!r} at position {position}, within the sequence"
    article = "an" if alphabet == "rna" else "a"
    return f"illegal letter {letter!r} at position {position} of {article} {alphabet} sequence"
