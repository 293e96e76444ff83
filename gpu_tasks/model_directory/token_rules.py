"""How each family of protein, RNA and DNA models wants its sequences written: the table of families.

A family is told from its vocabulary and its config.json, never from a name.
"""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import cached_property

from queue_app.choices import Alphabet
from queue_app.model.written_sequences import TokenRules

RESIDUES = frozenset("ACDEFGHIKLMNPQRSTVWY")
_AMBIGUOUS_BASES = frozenset("ACGTUNRYSWKMBDHVXI")
_RARE_TO_X = tuple((letter, "X") for letter in "UZOB")
_WORD = "▁"  # SentencePiece's sign for the begin of a word
_PAIR = re.compile("[A-Z#][a-z#]")
_OF_BASES = re.compile("[ACGTUN]+")
_LETTER = re.compile(r"[A-Za-z.*_#|+\-]")


@dataclass(frozen=True)
class Vocabulary:
    """A model's tokens. `ordinary` are those that are neither special nor written in brackets."""

    model_type: str
    tokens: frozenset[str]
    ordinary: frozenset[str]

    @cached_property
    def letters(self) -> frozenset[str]:
        """The ordinary tokens without the sign of a word's begin."""
        return frozenset(token.removeprefix(_WORD) for token in self.ordinary) - {""}

    @cached_property
    def words(self) -> frozenset[str]:
        """Those that are no punctuation."""
        return frozenset(filter(str.isalpha, self.letters))

    @cached_property
    def is_of_residues(self) -> bool:
        """Each residue is a token, and hardly anything else is: no text could be written with it."""
        return self.letters >= RESIDUES and all(map(_LETTER.fullmatch, self.letters))

    @cached_property
    def is_of_bases(self) -> bool:
        """Each base is a token, and so are at most the codes for several."""
        return {"A", "C", "G"} <= self.words <= _AMBIGUOUS_BASES and all(map(_LETTER.fullmatch, self.letters))

    @cached_property
    def has_only_bases(self) -> bool:
        """Every token is a word of bases, of whatever length."""
        return bool(self.words) and all(map(_OF_BASES.fullmatch, self.words))

    @cached_property
    def kmer(self) -> int:
        """k, where the tokens are all words of k bases; 0 where they are something else."""
        k = len(next(iter(self.words), ""))
        complete = k > 1 and len(self.words) >= 4**k and all(len(word) == k for word in self.words)
        return k if complete and self.has_only_bases else 0


@dataclass(frozen=True, slots=True)
class Row:
    """A family: its alphabet, its rules, who belongs to it, and where its authors say so."""

    alphabet: Alphabet
    rules: TokenRules
    fits: Callable[[Vocabulary], bool]
    source: str


def _is_residues_of(*model_types: str) -> Callable[[Vocabulary], bool]:
    return lambda found: found.is_of_residues and found.model_type in model_types


def _is_words_of_residues(found: Vocabulary) -> bool:
    """A T5 whose residues are words: ProtT5's, where Ankh's are letters of one word."""
    return found.is_of_residues and all(_WORD + letter in found.tokens for letter in RESIDUES)


def _is_words_of(k: int) -> Callable[[Vocabulary], bool]:
    return lambda found: found.kmer == k


def _kmers(k: int, stride: int, name: str) -> TokenRules:
    return TokenRules(name, kmer=k, stride=stride, between=" ")


TABLE = (
    Row(
        "protein", TokenRules("saprot", behind="#"),
        lambda found: sum(bool(_PAIR.fullmatch(token)) for token in found.ordinary) >= len(RESIDUES) * 20,
        "https://github.com/westlake-repl/SaProt: residues with their 3Di letters, # for an unknown one",
    ),
    Row(
        "protein", TokenRules("prostt5", _RARE_TO_X, between=" ", before="<AA2fold> "),
        lambda found: _is_words_of_residues(found) and "<AA2fold>" in found.tokens,
        "https://huggingface.co/Rostlab/ProstT5",
    ),
    Row(
        "protein", TokenRules("prott5", _RARE_TO_X, between=" "), _is_words_of_residues,
        "https://huggingface.co/Rostlab/prot_t5_xl_uniref50",
    ),
    Row(
        "protein", TokenRules("ankh"), _is_residues_of("t5", "mt5", "umt5"),
        "https://github.com/agemagician/Ankh: the letters of one word, rare residues as they are",
    ),
    Row(
        "protein", TokenRules("protbert", _RARE_TO_X, between=" "),
        _is_residues_of("bert", "albert", "electra", "xlnet"),
        "https://huggingface.co/Rostlab/prot_bert; IgBert and AntiBERTy descend from it",
    ),
    Row(
        "protein", TokenRules("antiberta2", between=" "), _is_residues_of("roformer"),
        "https://huggingface.co/alchemab/antiberta2",
    ),
    Row(
        "protein", TokenRules("letters"), lambda found: found.is_of_residues,
        "https://github.com/facebookresearch/esm, https://github.com/evolutionaryscale/esm: a token each",
    ),
    Row(
        "rna", _kmers(3, 3, "codons"),
        lambda found: found.kmer == 3 and any("U" in word for word in found.letters),
        "https://github.com/Sanofi-Public/CodonBERT: codon by codon",
    ),
    *(
        Row(
            "dna", _kmers(k, 1, f"kmers{k}"), _is_words_of(k),
            "https://github.com/jerryji1993/DNABERT: a k-mer at every base",
        )
        for k in range(2, 9)
    ),
    Row(
        "rna", TokenRules("bases"),
        lambda found: found.is_of_bases and "T" not in found.words,
        "https://github.com/ml4bio/RNA-FM: each base a token",
    ),
    Row("dna", TokenRules("bases"), lambda found: found.is_of_bases, "each base a token"),
    Row(
        "rna", TokenRules("plain"),
        lambda found: found.has_only_bases and not any("T" in word for word in found.words),
        "a tokenizer that cuts RNA by itself",
    ),
    Row(
        "dna", TokenRules("plain"), lambda found: found.has_only_bases,
        "https://huggingface.co/InstaDeepAI/nucleotide-transformer-500m-human-ref, "
        "https://huggingface.co/zhihan1996/DNABERT-2-117M: a tokenizer that cuts DNA by itself",
    ),
)  # fmt: skip
"""The first row that fits counts."""

TEXT = Row("text", TokenRules("plain"), lambda _: True, "as it stands")
NAMES = ("auto", *dict.fromkeys(row.rules.name for row in TABLE))


def vocabulary(model_type: str, tokens: Collection[str], special: Collection[str]) -> Vocabulary:
    """Tokens in brackets are special even where the tokenizer does not say so."""
    ordinary = {
        token
        for token in tokens
        if token not in special and not (token[:1] in "<[" and token[-1:] in ">]" and len(token) > 2)
    }
    return Vocabulary(model_type, frozenset(tokens), frozenset(ordinary))


def find_row(found: Vocabulary, name: str = "auto") -> Row:
    """The row of this name, or the first that fits the vocabulary. Raises ValueError for an unknown name."""
    if name == "auto":
        return next((row for row in TABLE if row.fits(found)), TEXT)
    rows = [row for row in (*TABLE, TEXT) if row.rules.name == name]
    if not rows:
        raise ValueError(f"rules {name!r}: none of {', '.join(NAMES)}")
    return next((row for row in rows if row.fits(found)), _in_letters_of(found, rows[0]))


def _in_letters_of(found: Vocabulary, row: Row) -> Row:
    """Rules that are named say nothing of T or U, which the vocabulary does: the other is unknown to it."""
    written = set("".join(filter(_OF_BASES.fullmatch, found.words)))
    if row.alphabet not in ("dna", "rna") or not written & {"T", "U"}:
        return row
    return replace(row, alphabet="dna" if "T" in written else "rna")
