"""The texts: as many tokens on average as a paragraph has, with the long tail of real ones."""

import random
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from benchmarks.common.checkout import ROOT

MEDIAN_WORDS, SIGMA = 48.7, 0.6
"""Words of a text, drawn log-normally: of the licence's words that makes 75 tokens of all-MiniLM-L6-v2."""
WORDS_LEAST, WORDS_MOST = 4, 150
"""The longest stay below the model's 256 tokens: longer ones some systems cut, others take in windows."""


def draw_texts(num_rows: int, seed: int) -> list[str]:
    """Stretches of the licence's prose; no two are equal."""
    words = (ROOT / "LICENSE").read_text().split()
    rng = random.Random(seed)
    texts: dict[str, str] = {}
    while len(texts) < num_rows:
        length = round(MEDIAN_WORDS * rng.lognormvariate(0, SIGMA))
        length = min(max(length, WORDS_LEAST), WORDS_MOST)
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
