"""A few records that stand for all: drawn by length, so that what is measured on them holds for the whole.

Lengths are cut into strata. Each keeps a random choice of its records while they pass, of bounded size; how
many records a chosen one stands for is its weight. So the sum of the weights is the number of records,
whatever their lengths, and a rare giant is never forgotten.
"""

from dataclasses import dataclass, field, replace
from math import log2
from random import Random

STRATA_PER_DOUBLING = 4
STRATUM_CHARACTERS = 512 << 10
"""What a stratum keeps at most: some batches of a large device, even where all lengths are alike."""
KEPT_LEAST = 4


@dataclass(frozen=True, slots=True)
class StratifiedSample:
    """Columns over the chosen records. `texts` may be cut; `lengths` are those of the whole texts."""

    texts: tuple[str, ...]
    lengths: tuple[int, ...]
    weights: tuple[float, ...]

    def scaled(self, share: float) -> "StratifiedSample":
        """For a part of the records that is like the whole."""
        return replace(self, weights=tuple(weight * share for weight in self.weights))


@dataclass(slots=True)
class _Stratum:
    """The records of about one length that have passed, and those of them that are kept."""

    capacity: int
    num_records: int = 0
    num_characters: int = 0
    kept: list[tuple[str, int]] = field(default_factory=list)

    def add(self, text: str, length: int, random: Random) -> None:
        self.num_records += 1
        self.num_characters += length
        if len(self.kept) < self.capacity:
            self.kept.append((text, length))
        elif (place := int(random.random() * self.num_records)) < self.capacity:
            self.kept[place] = (text, length)


class StratifiedSampler:
    """Fill it with every record, then draw. Equal records in equal order give equal samples."""

    def __init__(self, *, cut_characters: int) -> None:
        self.cut_characters = cut_characters
        self._random = Random(0)
        self._strata: dict[int, _Stratum] = {}

    def add(self, text: str) -> None:
        """A record that can be embedded; a longer text than `cut_characters` is kept only so far."""
        number = int(STRATA_PER_DOUBLING * log2(len(text)))
        stratum = self._strata.get(number)
        if stratum is None:
            stratum = self._strata[number] = _Stratum(self._capacity(len(text)))
        stratum.add(text[: self.cut_characters], len(text), self._random)

    def draw(self, num_characters: int) -> StratifiedSample:
        """About so many characters, each stratum by its share of all; at least some of each."""
        total = sum(stratum.num_characters for stratum in self._strata.values())
        chosen: list[tuple[str, int, float]] = []
        for _, stratum in sorted(self._strata.items()):
            share = num_characters * stratum.num_characters / total
            piece = min(stratum.num_characters / stratum.num_records, self.cut_characters)
            count = min(len(stratum.kept), max(KEPT_LEAST, round(share / piece)))
            weight = stratum.num_records / count
            chosen += [(*kept, weight) for kept in self._random.sample(stratum.kept, count)]
        texts, lengths, weights = zip(*chosen, strict=True) if chosen else ((), (), ())
        return StratifiedSample(texts, lengths, weights)

    def _capacity(self, length: int) -> int:
        return max(KEPT_LEAST, STRATUM_CHARACTERS // min(length, self.cut_characters))
