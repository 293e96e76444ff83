"""Sequences to the ids of their tokens, by the specification: a table of letters, or a tokenizer.

Payload ids of whole sequences: the planner, not the tokenizer, decides what happens to long ones.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import tokenizers
import xxhash

from gpu_tasks.errors import ModelLoadError, UnsupportedModel
from gpu_tasks.models.files import ModelFiles
from queue_app.model.spec import ModelSpec, TokensSpec

Ids = npt.NDArray[np.int32]


Encode = Callable[[Sequence[str]], list[Ids]]
"""Texts to ids, without special tokens."""


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """How the sequences of a model become ids. `prompt` is the text that is put before each.

    `num_lead` counts the tokens, special ones too, before the first that a record's vector is pooled of where
    the special ones are left out, and `num_prompt` where they are pooled with the rest.
    """

    spec: TokensSpec
    vocab_size: int
    encode: Encode
    prompt: str = ""
    num_lead: int = 0
    num_prompt: int = 0

    @property
    def prefix(self) -> tuple[int, ...]:
        return self.spec.prefix

    @property
    def suffix(self) -> tuple[int, ...]:
        return self.spec.suffix

    def tokenize(self, sequences: Sequence[str]) -> list[Ids]:
        return self.encode([self._written(sequence) for sequence in sequences])

    def count_unknown(self, ids: Ids) -> int:
        """How many of a sequence's payload tokens are those of what the vocabulary lacks.

        All of them, where one has no embedding: no vector can come of it.
        """
        if len(ids) and int(ids.max()) >= self.vocab_size:
            return len(ids)
        return 0 if self.spec.unknown is None else int(np.count_nonzero(ids == self.spec.unknown))

    def _written(self, sequence: str) -> str:
        # The rules of a table of letters are compiled into it.
        text = sequence if self.spec.kind == "letters" else self.spec.rules.written(sequence)
        text = self.prompt + text
        return text.lower() if self.spec.lower_case else text


def load_tokens(spec: ModelSpec, tokenizer: str | None, files: ModelFiles) -> Tokens:
    """See ModelSpec. `tokenizer` is the JSON text that was kept with the job.

    Raises:
        ModelLoadError: that text is missing or another one, or transformers has no tokenizer for the files.
        UnsupportedModel: a table of letters cannot read the prompt as the tokenizer would.
    """
    if spec.foreign_prompt:
        raise UnsupportedModel(f"{spec.path}: a table of letters does not read the prompt {spec.prompt}")
    encode = _encode(spec, tokenizer, files)
    tokens = Tokens(spec.tokens, spec.encoder.vocab_size, encode, spec.prompt.text if spec.prompt else "")
    return _with_lead(tokens, spec)


def _encode(spec: ModelSpec, tokenizer: str | None, files: ModelFiles) -> Encode:
    if spec.tokens.kind == "letters":
        return _letter_table(spec.tokens)
    return _fast_tokenizer(spec, tokenizer) if spec.tokens.kind == "fast" else _slow_tokenizer(spec, files)


def _letter_table(tokens: TokensSpec) -> Encode:
    """An id for each letter. Lower case, as of soft-masked residues, counts as upper case."""
    assert tokens.unknown is not None
    table = np.full(256, tokens.unknown, dtype=np.int32)
    for letter, index in zip(tokens.letters, tokens.ids, strict=True):
        table[[ord(letter), ord(letter.lower())]] = index

    def encode(texts: Sequence[str]) -> list[Ids]:
        # What is not ASCII is read as a question mark.
        letters = (text.encode("ascii", "replace") for text in texts)
        found = [table[np.frombuffer(row, np.uint8)] for row in letters]
        return [_fuse(ids, tokens.unknown) for ids in found] if tokens.fuse_unknown else found

    return encode


def _fuse(ids: Ids, unknown: int | None) -> Ids:
    """Neighbouring unknown letters are one token."""
    again = (ids[1:] == unknown) & (ids[:-1] == unknown)
    return ids[np.concatenate([[True], ~again])] if again.any() else ids


def _fast_tokenizer(spec: ModelSpec, text: str | None) -> Encode:
    """Through the tokenizers library."""
    if text is None:
        raise ModelLoadError(f"{spec.path}: its tokenizer is missing: not kept with the job")
    if xxhash.xxh3_128_hexdigest(text.encode()) != spec.tokens.digest:
        raise ModelLoadError(f"{spec.path}: the tokenizer that was kept with the job has changed")
    try:
        tokenizer = tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # tokenizers raises plain Exception
        raise ModelLoadError(f"{spec.path}: its tokenizer is not readable: {error}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def encode(texts: Sequence[str]) -> list[Ids]:
        encoded = tokenizer.encode_batch_fast([*texts], add_special_tokens=False)
        return [np.array(encoding.ids, dtype=np.int32) for encoding in encoded]

    return encode


def _slow_tokenizer(spec: ModelSpec, files: ModelFiles) -> Encode:
    """Through transformers, where it has no fast one."""
    from gpu_tasks.models.from_transformers import open_tokenizer

    tokenizer = open_tokenizer(spec, files)

    def encode(texts: Sequence[str]) -> list[Ids]:
        if not texts:
            return []
        encoded = tokenizer([*texts], add_special_tokens=False, truncation=False, verbose=False)
        return [np.array(ids, dtype=np.int32) for ids in encoded["input_ids"]]

    return encode


def _with_lead(tokens: Tokens, spec: ModelSpec) -> Tokens:
    """What stands before a record is measured by itself, as sentence-transformers does it."""
    num_special, rules = len(tokens.prefix), spec.tokens.rules
    num_prompt = 0
    if spec.prompt and not spec.prompt.pooled:
        # It leaves only one of the special tokens behind the prompt out of its count.
        num_prompt = num_special + _count(tokens, tokens.prompt) + max(0, len(tokens.suffix) - 1)
    # What a family writes before all, as <AA2fold>, is none of the record's own. A table's prefix has it.
    before = 0
    if rules.before and spec.tokens.kind != "letters":
        before = _count(tokens, tokens.prompt + rules.before)
    return replace(tokens, num_lead=max(num_prompt, num_special + before), num_prompt=num_prompt)


def _count(tokens: Tokens, text: str) -> int:
    (ids,) = tokens.encode([text.lower() if tokens.spec.lower_case else text])
    return len(ids)
