"""How sequences are written for a model before they become tokens.

Which family has which rules is told by the table in gpu_tasks.model_directory.token_rules.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

_PAIRS = re.compile("(?:[A-Z#][a-z#])+")


@dataclass(frozen=True, slots=True)
class TokenRules:
    """Letters are replaced first, then k-mers are made (`kmer` letters each, one every `stride`), each letter
    or k-mer is followed by `behind`, `between` is put between them, and `before` in front of all.
    """

    name: str = "plain"
    replaced: tuple[tuple[str, str], ...] = ()
    kmer: int = 0
    stride: int = 1
    behind: str = ""
    between: str = ""
    before: str = ""

    def written(self, sequence: str) -> str:
        """The text that the tokenizer is given. A sequence that is in the family's words already stays so."""
        if not self.changes or self.is_written(sequence):
            return self.before + sequence
        text = sequence.translate({ord(letter): other for letter, other in self.replaced})
        parts: Sequence[str] = text
        if self.kmer:
            last = max(len(text) - self.kmer, 0)
            parts = [text[start : start + self.kmer] for start in range(0, last + 1, self.stride)]
        return self.before + self.between.join(part + self.behind for part in parts)

    def is_written(self, sequence: str) -> bool:
        """True for k-mers with blanks, and for pairs of a residue and its 3Di letter from begin to end."""
        return bool((self.kmer and " " in sequence) or (self.behind and _PAIRS.fullmatch(sequence)))

    @property
    def changes(self) -> bool:
        """False where a sequence is given as it stands."""
        return bool(self.replaced or self.kmer or self.behind or self.between)


AS_THEY_STAND = TokenRules()
