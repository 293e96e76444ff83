"""Texts of real words, drawn from a seed."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

from tokenizers import Tokenizer

from benchmarks.common.checkout import ROOT

MEDIAN_WORDS, SIGMA = 48.7, 0.6
"""Words of a text, drawn log-normally: of the licence's words that makes 75 tokens of all-MiniLM-L6-v2."""
WORDS_LEAST, WORDS_MOST = 4, 150
"""The longest stay below the model's 256 tokens: longer ones some systems cut, others take in windows."""


def draw_texts(num_rows: int, seed: int) -> list[str]:
    """As many tokens on average as a paragraph has, with the long tail of real texts."""

    def length(rng: random.Random) -> int:
        return min(max(round(MEDIAN_WORDS * rng.lognormvariate(0, SIGMA)), WORDS_LEAST), WORDS_MOST)

    return draw_prose(num_rows, random.Random(seed), length)


def draw_prose(num_rows: int, rng: random.Random, draw_length: Callable[[random.Random], int]) -> list[str]:
    """Stretches of the licence's prose, of so many words; no two are equal."""
    words = (ROOT / "LICENSE").read_text().split()
    texts: dict[str, str] = {}
    while len(texts) < num_rows:
        length = draw_length(rng)
        first = rng.randrange(len(words) - length)
        text = " ".join(words[first : first + length])
        texts.setdefault(text.lower(), text)
    return list(texts.values())


def num_tokens(texts: Sequence[str], model: Path) -> list[int]:
    """How many tokens each text has, the special ones included."""
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return [len(encoding.ids) for encoding in tokenizer.encode_batch_fast(list(texts))]
