"""Tokenizers through transformers, for the models that it runs; and the way to transformers itself.

transformers, of the extra `hf`, is imported when such a model is loaded, never before. Code that a directory
brings is not run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpu_tasks.errors import ModelLoadError, UnsupportedModel
from gpu_tasks.models.packed import Tokenizer
from gpu_tasks.models.texts import special_tokens, text_tokenizer
from gpu_tasks.models.weights import read_json

LOCAL = {"local_files_only": True, "trust_remote_code": False}
"""For every from_pretrained: nothing is fetched, and nothing of it is run."""


@dataclass(frozen=True, slots=True, eq=False)
class SlowTokenizer:
    """A tokenizer of transformers that has no fast one."""

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    tokenizer: Any
    lower_case: bool

    def tokenize(self, sequences: Sequence[str]) -> list[npt.NDArray[np.int32]]:
        texts = [text.lower() for text in sequences] if self.lower_case else list(sequences)
        encoded = self.tokenizer(texts, add_special_tokens=False, truncation=False, verbose=False)
        return [np.array(ids, dtype=np.int32) for ids in encoded["input_ids"]]


def load_auto_texts(directory: Path, *, lower_case: bool) -> Tokenizer:
    """The tokenizer with all that tokenizer_config.json changes in it.

    Raises:
        ModelLoadError: transformers is missing, or cannot load it.
        UnsupportedModel: it is code of the directory's own, or makes token types, which are not passed on.
    """
    transformers, settings = import_transformers(directory), directory / "tokenizer_config.json"
    refuse_code(settings, read_json(settings) if settings.exists() else {})
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(directory, **LOCAL)
    except Exception as error:  # of any class
        raise ModelLoadError(
            f"{directory}: transformers has no tokenizer for it: {first_line(error)}"
        ) from None
    whole = tokenizer("A")
    if any(whole.get("token_type_ids", ())):
        raise UnsupportedModel(f"{directory}: its tokenizer makes token types, which are not implemented")
    if tokenizer.is_fast:
        return text_tokenizer(tokenizer.backend_tokenizer, lower_case=lower_case)
    payload = tokenizer("A", add_special_tokens=False)["input_ids"]
    return SlowTokenizer(*special_tokens(whole["input_ids"], payload), tokenizer, lower_case)


def import_transformers(directory: Path) -> Any:
    try:
        transformers = import_module("transformers")
    except ImportError:
        raise ModelLoadError(
            f"{directory}: a model that is run by transformers: pip install 'holdfast[hf]'"
        ) from None
    transformers.utils.logging.disable_progress_bar()
    return transformers


def refuse_code(path: Path, fields: Mapping[str, Any]) -> None:
    """Without that code transformers takes the nearest class that it has, and says nothing."""
    if "auto_map" in fields:
        raise UnsupportedModel(
            f"{path}: names code of its own (auto_map), and Holdfast runs no code from a model directory"
        )


def first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
