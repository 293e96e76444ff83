"""How much of a sequence a model has no tokens for, counted without the model.

The worker counts the tokens of every record that it computes (gpu_tasks.inference.batch_plan). Here those
of a few are counted at submit, so that what no vector can come of is refused before it is computed.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from queue_app.choices import Alphabet
from queue_app.errors import ModelError, UsageError
from queue_app.model.spec import ModelSpec, TokensSpec
from queue_app.wording import listed

if TYPE_CHECKING:
    import tokenizers

    from queue_app.model.spec import FoundModel

CountUnknown = Callable[[str], tuple[int, int]]
"""Counts the unknown tokens of a sequence, and all its tokens beside the special ones."""
LETTERS = {"protein": "ACDEFGHIKLMNPQRSTVWY", "dna": "ACGT", "rna": "ACGU"}
"""What a model of the alphabet has tokens for."""


def count_unknown_of(model: "FoundModel") -> CountUnknown | None:
    """None for a model that knows everything, and for one whose tokenizer only its worker has."""
    spec = model.spec
    if spec.tokens.unknown is None:
        return None
    prompt = spec.prompt.text if spec.prompt else ""
    if spec.tokens.kind == "letters":
        return partial(_count_letters, spec.tokens, prompt)
    if model.tokenizer is None:
        return None
    return partial(_count_tokens, spec.tokens, prompt, _tokenizer(model))


def refuse_alphabet(asked: Alphabet | str, model: "FoundModel") -> None:
    """Raises UsageError where the model has no tokens for the letters of the alphabet that was asked for."""
    spec = model.spec
    if asked not in LETTERS or asked == spec.alphabet:
        return
    count = count_unknown_of(replace(model, spec=replace(spec, prompt=None)))
    word = max(1, spec.tokens.rules.kmer)
    lacking = [letter for letter in LETTERS[asked] if count and count(letter * word)[0]]
    if lacking:
        raise UsageError(
            f"--alphabet {asked}: {spec.name} has no token for {listed(lacking, most=20)}; "
            f"{_remedy(asked, spec)}"
        )


def _remedy(asked: str, spec: ModelSpec) -> str:
    if {asked, spec.alphabet} == {"dna", "rna"}:
        return f"it is for {spec.alphabet}: leave --alphabet out, and U and T are one"
    return f"it is for {spec.alphabet}: leave --alphabet out, or choose a model for {asked}"


def _tokenizer(model: "FoundModel") -> "tokenizers.Tokenizer":
    import tokenizers

    try:
        tokenizer = tokenizers.Tokenizer.from_str(model.tokenizer or "")
    except Exception as error:  # tokenizers raises plain Exception
        raise ModelError(f"{model.spec.path}: its tokenizer is not readable: {error}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _count_letters(tokens: TokensSpec, prompt: str, sequence: str) -> tuple[int, int]:
    text = prompt + sequence
    text = text.lower() if tokens.lower_case else text
    num_known = len(text) - len(text.translate(dict.fromkeys(map(ord, tokens.letters))))
    if tokens.fuse_unknown:
        num_unknown = len(re.findall(f"[^{re.escape(tokens.letters)}]+", text))
    else:
        num_unknown = len(text) - num_known
    return num_unknown, num_known + num_unknown


def _count_tokens(
    tokens: TokensSpec, prompt: str, tokenizer: "tokenizers.Tokenizer", sequence: str
) -> tuple[int, int]:
    text = prompt + tokens.rules.written(sequence)
    text = text.lower() if tokens.lower_case else text
    # One by one: a batch would start threads, and warn of them whenever this process forks.
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    return sum(each == tokens.unknown for each in ids), len(ids)
