"""Which letters are embedded as they are, which are changed, and which set a record aside."""

import pytest

from queue_app.alphabets import judge
from queue_app.job import Alphabet

EMBEDDED: list[tuple[Alphabet, str, str]] = [
    ("protein", "ACDEFGHIKLMNPQRSTVWY", "ACDEFGHIKLMNPQRSTVWY"),
    ("protein", "MKBJOUXZ", "MKBJOUXZ"),
    ("protein", "mkVllA", "MKVLLA"),
    ("protein", "mkv*", "MKV"),
    ("protein", " mk v\t\r\nl", "MKVL"),
    ("dna", "ACGTacgt", "ACGTACGT"),
    ("dna", "RYSWKMBDHVN", "RYSWKMBDHVN"),
    ("dna", "ACGUu", "ACGTT"),
    ("rna", "ACGUacgu", "ACGUACGU"),
    ("rna", "ACGTt", "ACGUU"),
    ("text", " As it stands -.* ß ", " As it stands -.* ß "),
]


@pytest.mark.parametrize(("alphabet", "raw", "sequence"), EMBEDDED)
def test_what_is_embedded_of_a_record(alphabet: Alphabet, raw: str, sequence: str) -> None:
    assert judge(raw, alphabet) == (sequence, None)


SET_ASIDE: list[tuple[Alphabet, str, str]] = [
    ("protein", "", "empty sequence"),
    ("protein", "*", "empty sequence"),
    ("protein", " \n", "empty sequence"),
    ("protein", "MK*V", "stop '*' at position 3, within the sequence"),
    ("protein", "MKV**", "stop '*' at position 4, within the sequence"),
    ("protein", "MK-V", "gap '-' at position 3 of an aligned sequence: take its gaps out first"),
    ("protein", ".MKV", "gap '.' at position 1 of an aligned sequence: take its gaps out first"),
    ("protein", "MK4", "illegal letter '4' at position 3 of a protein sequence"),
    ("protein", "MKß", "illegal letter 'ß' at position 3 of a protein sequence"),
    ("protein", "M\uff2b", "illegal letter '\uff2b' at position 2 of a protein sequence"),
    ("dna", "ACGE", "illegal letter 'E' at position 4 of a dna sequence"),
    ("dna", "AC-G", "gap '-' at position 3 of an aligned sequence: take its gaps out first"),
    ("dna", "ACG*", "illegal letter '*' at position 4 of a dna sequence"),
    ("rna", "ACGX", "illegal letter 'X' at position 4 of an rna sequence"),
    ("text", "", "empty sequence"),
    ("text", " \t", "empty sequence"),
]


@pytest.mark.parametrize(("alphabet", "raw", "problem"), SET_ASIDE)
def test_what_sets_a_record_aside_and_why(alphabet: Alphabet, raw: str, problem: str) -> None:
    assert judge(raw, alphabet)[1] == problem
