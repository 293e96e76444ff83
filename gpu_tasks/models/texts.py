"""Text to ids through a model's tokenizer.json."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tokenizers

from gpu_tasks.errors import ModelLoadError

_TEXT = "A"  # a letter of every alphabet


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
    return text_tokenizer(tokenizer, lower_case=lower_case)


def text_tokenizer(tokenizer: tokenizers.Tokenizer, *, lower_case: bool = False) -> TextTokenizer:
    """Whole texts through a tokenizer, which is changed. Raises ModelLoadError when it knows no letter."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    prefix, suffix = special_tokens(
        tokenizer.encode(_TEXT).ids, tokenizer.encode(_TEXT, add_special_tokens=False).ids
    )
    return TextTokenizer(prefix, suffix, tokenizer, lower_case)


def special_tokens(whole: Sequence[int], payload: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What stands before and after the payload. Raises ModelLoadError when the whole is something else."""
    for start in range(len(whole) - len(payload) + 1):
        stop = start + len(payload)
        if payload and [*whole[start:stop]] == [*payload]:
            return tuple(whole[:start]), tuple(whole[stop:])
    raise ModelLoadError(f"a tokenizer that makes {[*whole]} of {_TEXT!r}, and {[*payload]} of its payload")
