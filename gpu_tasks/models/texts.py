"""Text to ids through a model's tokenizer.json."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tokenizers

from gpu_tasks.errors import ModelLoadError


@dataclass(frozen=True, slots=True, eq=False)
class TextTokenizer:
    """Payload ids of whole texts: the planner, not the tokenizer, decides what happens to long ones."""

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    tokenizer: tokenizers.Tokenizer
    lower_case: bool = False

    def tokenize(self, sequences: Sequence[str]) -> list[npt.NDArray[np.int32]]:
        texts = [text.lower() for text in sequences] if self.lower_case else list(sequences)
        encoded = self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(encoding.ids, dtype=np.int32) for encoding in encoded]


def load_texts(directory: Path, *, lower_case: bool = False) -> TextTokenizer:
    """Raises ModelLoadError when tokenizer.json is missing or cannot be read."""
    path = directory / "tokenizer.json"
    if not path.exists():
        raise ModelLoadError(f"{path}: missing; save the model with a fast tokenizer")
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises plain Exception
        raise ModelLoadError(f"{path}: not a readable tokenizer: {error}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    prefix, suffix = _special_tokens(tokenizer)
    return TextTokenizer(prefix, suffix, tokenizer, lower_case)


def _special_tokens(tokenizer: tokenizers.Tokenizer) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What the tokenizer's template puts before and after a text."""
    encoding = tokenizer.encode("a")
    payload = [place for place, special in enumerate(encoding.special_tokens_mask) if not special]
    return tuple(encoding.ids[: payload[0]]), tuple(encoding.ids[payload[-1] + 1 :])
