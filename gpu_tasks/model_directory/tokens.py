"""The tokenizer as transformers makes it from the directory, and what a worker needs to do the same without.

transformers heeds tokenizer_config.json, vocab.txt and many more beside tokenizer.json, differently for each
class and version. So it is asked once, and what it made is kept. Probes show that the copy does the same.
"""

import string
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import tokenizers
import xxhash

from gpu_tasks.errors import ModelLoadError, UnsupportedModel, first_line
from gpu_tasks.model_directory.files import require_unicode
from gpu_tasks.model_directory.token_rules import RESIDUES, Row, find_row, vocabulary
from gpu_tasks.models.from_transformers import LOCAL
from queue_app.model.spec import TokensSpec
from queue_app.shown import visible

FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt",
    "vocab.json", "merges.txt", "*.model", "tokenizer.model.v*", "vocab*.txt", "spm*", "bpe.codes",
    "dict.txt", "*.tiktoken", "*.bpe*", "source.spm", "target.spm",
)  # fmt: skip
"""Everything beside config.json that transformers' tokenizers are made of."""
_TEXTS = (
    "A", "the quick brown fox", "Hello World, naïve Straße 42!", "  two  blanks ", "a\tb\nc", "MKTAYIAKQR",
    "M K T", "mkt", "ACGTN acgtn", "CC(=O)O[C@@H]c1", "你好 ① ﬁ", "[SEP] </s> <mask> [CLS]x", "...",
    "x" * 150,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class FoundTokens:
    """How sequences become ids, their family's row, the tokenizer's copy, and the type of all tokens.

    `limit` is the longest text that the tokenizer cares for, special tokens included; None: it names none.
    """

    spec: TokensSpec
    row: Row
    tokenizer: str | None
    token_type: int
    limit: int | None


LIMIT_MOST = 1_000_000
"""A tokenizer without a limit writes a number far above it."""


def read_tokens(
    folder: Path, model_type: str, vocab_size: int, *, rules: str = "auto", lower_case: bool = False
) -> FoundTokens:
    """Ask transformers for the tokenizer, and copy what it does.

    Args:
        folder: of the transformer.
        rules: a name of the table in token_rules; auto finds the row by the vocabulary.
        lower_case: sentence-transformers' do_lower_case.

    Raises:
        ModelLoadError: there is no tokenizer, or transformers does not make one of what is there.
        UnsupportedModel: it does something that no copy does.
        ValueError: there are no such rules.
    """
    tokenizer = _make(folder)
    try:
        return _copy(folder, tokenizer, model_type, vocab_size, rules, lower_case)
    except (ModelLoadError, ValueError):
        raise
    except Exception as error:  # of any class: tokenizers has one of its own
        raise UnsupportedModel(f"{folder}: its tokenizer does not run: {first_line(error)}") from None


def _copy(
    folder: Path, tokenizer: Any, model_type: str, vocab_size: int, rules: str, lower_case: bool
) -> FoundTokens:
    words = tokenizer.get_vocab()
    row = find_row(vocabulary(model_type, words, set(tokenizer.all_special_tokens)), rules)
    if row.rules.replaced and "X" not in {word.lstrip("▁") for word in words}:
        row = replace(row, rules=replace(row.rules, replaced=()))
    prefix, suffix = _special_tokens(folder, tokenizer)
    limit = tokenizer.model_max_length
    found = FoundTokens(
        spec=TokensSpec(
            kind="slow",
            prefix=prefix,
            suffix=suffix,
            unknown=tokenizer.unk_token_id,
            rules=row.rules,
            cuts_the_begin=tokenizer.truncation_side == "left",
            lower_case=lower_case,
        ),
        row=row,
        tokenizer=None,
        token_type=_token_type(folder, tokenizer),
        limit=int(limit) if limit and 0 < limit <= LIMIT_MOST else None,
    )
    _require_ids_below(folder, tokenizer, vocab_size)
    copied = _as_letters(tokenizer, found) or _as_fast(tokenizer, found) or _slow(folder, found, tokenizer)
    _require_residues(folder, tokenizer, copied)
    return copied


def _make(folder: Path) -> Any:
    from transformers import AutoTokenizer

    for name in FILES:
        if name.endswith(".json") and (folder / name).exists():
            require_unicode(folder / name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), **LOCAL)
    except Exception as error:  # of any class
        why = first_line(error)
        if any(folder.glob("*.model")) and "tiktoken" in str(
            error
        ):  # asked for where SentencePiece is missing
            why = "a SentencePiece model needs two packages: pip install sentencepiece protobuf"
        raise ModelLoadError(f"{folder}: transformers makes no tokenizer of it: {why}") from None
    # Without any file of a tokenizer transformers makes one of the special tokens alone.
    if not set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens):
        hollow = folder / "tokenizer.json"
        what = f"{hollow}: has special tokens alone" if hollow.is_file() else f"{folder}: no tokenizer in it"
        raise ModelLoadError(f"{what}: save the model's own beside its weights")
    return tokenizer


def _ids(tokenizer: Any, text: str, *, special: bool = True) -> list[int]:
    encoded = tokenizer(text, add_special_tokens=special, truncation=False, padding=False, verbose=False)
    return [int(each) for each in encoded["input_ids"]]


def _special_tokens(folder: Path, tokenizer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Those before and behind every text."""
    whole, payload = _ids(tokenizer, "A"), _ids(tokenizer, "A", special=False)
    for start in range(len(whole) - len(payload) + 1):
        if payload and whole[start : start + len(payload)] == payload:
            return tuple(whole[:start]), tuple(whole[start + len(payload) :])
    raise UnsupportedModel(
        f"{folder}: its tokenizer makes {whole} of 'A' and {payload} of it without special tokens"
    )


def _framed(spec: TokensSpec, payload: Iterable[int]) -> list[int]:
    return [*spec.prefix, *payload, *spec.suffix]


def _token_type(folder: Path, tokenizer: Any) -> int:
    """transformers passes on what the tokenizer says, and so the model sees it."""
    types = {each for text in _TEXTS[:3] for each in tokenizer(text).get("token_type_ids", (0,))}
    if len(types) != 1:
        raise UnsupportedModel(f"{folder}: its tokenizer gives the tokens of one text several types")
    return int(types.pop())


def _require_ids_below(folder: Path, tokenizer: Any, vocab_size: int) -> None:
    """A tokenizer of another model, or with words of its own, knows some for which there are no embeddings.

    A token for padding that was added without one is left: it is in no text, and a record that spells it is
    quarantined.
    """
    for word, each in tokenizer.get_vocab().items():
        if each >= vocab_size and word != tokenizer.pad_token:
            raise UnsupportedModel(
                f"{folder}: its tokenizer gives {visible(word)!r} the id {each}, and config.json says "
                f"vocab_size={vocab_size}"
            )


def _require_residues(folder: Path, tokenizer: Any, copied: FoundTokens) -> None:
    """A vocabulary of residues may be rebuilt by a class whose tokenizer finds none of them in a protein."""
    spec = copied.spec
    if copied.row.alphabet != "protein" or spec.kind == "letters":
        return
    ids = _ids(tokenizer, spec.rules.written("".join(sorted(RESIDUES))), special=False)
    if spec.unknown in ids:
        raise UnsupportedModel(
            f"{folder}: its tokenizer, as transformers makes it, does not know the residues of its own "
            "vocabulary; tokenizer_class in tokenizer_config.json may be that of another model"
        )


# ---- copies


def _as_letters(tokenizer: Any, found: FoundTokens) -> FoundTokens | None:
    """A table, where each letter by itself has an id, as the probes show."""
    rules, unknown = found.row.rules, found.spec.unknown
    as_it_stands = found.row.alphabet == "text" or rules.name == "plain"
    if as_it_stands or rules.kmer or rules.behind or unknown is None:
        return None
    one, two = _ids(tokenizer, rules.written("A")), _ids(tokenizer, rules.written("AA"))
    if len(two) != len(one) + 1:
        return None
    # What a family writes before all is part of the prefix.
    prefix = tuple(one[: len(one) - len(found.spec.suffix) - 1])
    spec = replace(found.spec, kind="letters", prefix=prefix)
    letters = string.ascii_uppercase + ".-"
    known = {letter: _letter_id(tokenizer, spec, letter) for letter in letters}
    table = {letter: each for letter, each in known.items() if each is not None and each != unknown}
    for fuse in (False, True):
        if table and all(
            _ids(tokenizer, rules.written(probe)) == _framed(spec, _look_up(probe, table, unknown, fuse))
            for probe in _sequences(letters)
        ):
            ids = tuple(table.values())
            return replace(found, spec=replace(spec, letters="".join(table), ids=ids, fuse_unknown=fuse))
    return None


def _letter_id(tokenizer: Any, spec: TokensSpec, letter: str) -> int | None:
    ids = _ids(tokenizer, spec.rules.written(f"A{letter}A"))
    inner = ids[len(spec.prefix) : len(ids) - len(spec.suffix)]
    return inner[1] if len(inner) == 3 else None


def _look_up(sequence: str, table: dict[str, int], unknown: int, fuse: bool) -> list[int]:
    ids: list[int] = []
    for letter in sequence:
        each = table.get(letter, unknown)
        if not (fuse and each == unknown and ids[-1:] == [unknown]):
            ids.append(each)
    return ids


def _sequences(letters: str) -> Iterator[str]:
    """Probes: every letter alone, doubled and between others, and some long ones by chance."""
    yield from letters
    yield from (letter * 3 for letter in letters)
    chance = Random(7)
    for length in (7, 50, 200, 600):
        yield "".join(chance.choices(letters, k=length))
    for alphabet in ("".join(sorted(RESIDUES)), "ACGT", "ACGU"):
        yield "".join(chance.choices(alphabet, k=300))


def _as_fast(tokenizer: Any, found: FoundTokens) -> FoundTokens | None:
    """The tokenizers library's part of it, where it does all of it, as the probes show."""
    if not tokenizer.is_fast:
        return None
    backend = tokenizers.Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_truncation()
    backend.no_padding()
    for text in (*_TEXTS, *map(found.row.rules.written, _TEXTS)):
        ids = backend.encode(text, add_special_tokens=False).ids
        if _ids(tokenizer, text) != _framed(found.spec, ids):
            return None
    text = backend.to_str()
    digest = xxhash.xxh3_128_hexdigest(text.encode())
    return replace(found, spec=replace(found.spec, kind="fast", digest=digest), tokenizer=text)


def _slow(folder: Path, found: FoundTokens, tokenizer: Any) -> FoundTokens:
    """Through transformers in the worker; the same special tokens must stand around every text."""
    for text in _TEXTS:
        if _ids(tokenizer, text) != _framed(found.spec, _ids(tokenizer, text, special=False)):
            raise UnsupportedModel(
                f"{folder}: its tokenizer puts other tokens around {text!r} than around 'A'"
            )
    return found
