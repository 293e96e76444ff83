"""Which letters are embedded as they are, which are changed, and which set a record aside."""

import pytest

from queue_app.choices import Alphabet
from queue_app.ingest.alphabets import judge
from queue_app.model.written_sequences import TokenRules

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


# ---- sequences in the model's words

KMERS = TokenRules("kmers3", kmer=3, stride=1, between=" ")
CODONS = TokenRules("codons", kmer=3, stride=3, between=" ")
SAPROT = TokenRules("saprot", behind="#")

KEPT: list[tuple[Alphabet, TokenRules, str, str]] = [
    ("dna", KMERS, "ATG TGC GCA", "ATG TGC GCA"),
    ("dna", KMERS, " aug  ugc\tgca\n", "ATG TGC GCA"),
    ("rna", CODONS, "ATG gcc", "AUG GCC"),
    ("dna", KMERS, "ATGC", "ATGC"),
    ("rna", CODONS, "auggcc", "AUGGCC"),
    ("protein", SAPROT, "MdK#Vp", "MdK#Vp"),
    ("protein", SAPROT, "#dMp\nKv", "#dMpKv"),
    ("protein", SAPROT, "MKV*", "MKV"),
    ("protein", SAPROT, "mkv", "MKV"),
    ("text", KMERS, "ATGC TT", "ATGC TT"),
]


@pytest.mark.parametrize(("alphabet", "rules", "raw", "sequence"), KEPT)
def test_what_is_written_in_the_models_words_is_kept(
    alphabet: Alphabet, rules: TokenRules, raw: str, sequence: str
) -> None:
    assert judge(raw, alphabet, rules) == (sequence, None)


NO_WORDS: list[tuple[Alphabet, TokenRules, str, str]] = [
    ("dna", KMERS, "ATG TGCG", "a word of other than 3 letters at position 5"),
    ("dna", KMERS, "acgtacgtac gtacgtacgt", "a word of other than 3 letters at position 1"),
    ("dna", KMERS, "ATG TEC", "illegal letter 'E' at position 6 of a dna sequence"),
    ("dna", KMERS, "AC", "shorter than the 3 letters"),
    ("rna", CODONS, "AUGGC", "letters left over behind the last whole word of 3"),
    ("rna", CODONS, "AUG GC", "a word of other than 3 letters at position 5"),
    ("protein", SAPROT, "MdK#V", "illegal letter '#' at position 4 of a protein sequence"),
]


@pytest.mark.parametrize(("alphabet", "rules", "raw", "problem"), NO_WORDS)
def test_what_is_not_made_of_the_models_words_is_set_aside(
    alphabet: Alphabet, rules: TokenRules, raw: str, problem: str
) -> None:
    found = judge(raw, alphabet, rules)[1]
    assert found is not None
    assert found.startswith(problem)


@pytest.mark.parametrize(
    ("rules", "sequence", "text"),
    [
        (SAPROT, "MKV", "M#K#V#"),
        (SAPROT, "MdK#Vp", "MdK#Vp"),
        (SAPROT, "M", "M#"),
        (KMERS, "ATGC", "ATG TGC"),
        (KMERS, "ATG TGC", "ATG TGC"),
        (CODONS, "AUGGCC", "AUG GCC"),
    ],
)
def test_the_rules_leave_what_is_written_already(rules: TokenRules, sequence: str, text: str) -> None:
    assert rules.written(sequence) == text
