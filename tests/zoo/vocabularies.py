"""Tokenizers for the models of the zoo, saved as the published directories have them."""

import json
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

BERT_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ROBERTA_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
ESM2_VOCABULARY = (
    "<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWCXBUZO.-", "<null_1>", "<mask>",
)  # fmt: skip
"""https://huggingface.co/facebook/esm2_t6_8M_UR50D/blob/main/vocab.txt"""
BERT_NAMES = {
    "pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}  # fmt: skip
ROBERTA_NAMES = {
    "bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>",
    "pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>",
}  # fmt: skip
_LETTERS = (*"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:?()-", *"ßïéÏ")
WORDS = (
    *BERT_SPECIAL, *_LETTERS, *(f"##{letter}" for letter in _LETTERS),
    "the", "The", "quick", "protein", "Protein", "kinase", "##ase", "world", "query", "hello", "sub",
    "##unit",
)  # fmt: skip
"""A WordPiece vocabulary with upper and lower case, so that lowering it or not makes other tokens."""
CORPUS = (
    "The mitochondrial chaperonin folds proteins in the matrix of the cell",
    "a kinase phosphorylates its substrate on serine, (EC 2.7)",
    "Straße NAÏVE café hello world query: how do proteins fold?",
    "CC(=O)Oc1ccccc1C(=O)O [Na+].[Cl-] N[C@@H](C)C(=O)O",
)


def write_json(path: Path, fields: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(fields, indent=1))


def write_settings(directory: Path, kind: str, **fields: Any) -> None:
    """tokenizer_config.json."""
    write_json(directory / "tokenizer_config.json", {"tokenizer_class": kind, **fields})


def write_wordpiece(
    directory: Path,
    words: Sequence[str] = WORDS,
    *,
    lower: bool = False,
    stated_lower: bool | None = None,
    files: Iterable[str] = ("vocab.txt", "tokenizer.json"),
    most: int = 64,
) -> int:
    """BERT's tokenizer; answers how many tokens it has. `stated_lower` differs where the files contradict."""
    directory.mkdir(parents=True, exist_ok=True)
    if "vocab.txt" in files:
        (directory / "vocab.txt").write_text("\n".join(words) + "\n")
    if "tokenizer.json" in files:
        wordpiece(words, lower=lower).save(str(directory / "tokenizer.json"))
    stated = lower if stated_lower is None else stated_lower
    write_settings(directory, "BertTokenizer", do_lower_case=stated, model_max_length=most, **BERT_NAMES)
    return len(words)


def wordpiece(words: Sequence[str] = WORDS, *, lower: bool = False) -> Tokenizer:
    ids = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lower)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    tokenizer.add_special_tokens([*BERT_SPECIAL])
    return tokenizer


def write_bytes(
    directory: Path,
    *,
    files: Iterable[str] = ("tokenizer.json",),
    kind: str = "RobertaTokenizer",
    template: Any = None,
    most: int = 64,
    **fields: Any,
) -> int:
    """RoBERTa's and GPT's tokenizer; answers how many tokens it has."""
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340, special_tokens=[*ROBERTA_SPECIAL], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator([*CORPUS] * 9, trainer)
    both = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    tokenizer.post_processor = template or both
    if "tokenizer.json" in files:
        tokenizer.save(str(directory / "tokenizer.json"))
    if "merges.txt" in files:
        tokenizer.model.save(str(directory))
    write_settings(directory, kind, model_max_length=most, **{**ROBERTA_NAMES, **fields})
    return int(tokenizer.get_vocab_size())


def write_words(directory: Path, words: Sequence[str], *, between: str) -> int:
    """Whole words of the vocabulary and nothing else: `between` is a pattern of what parts them."""
    ids = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(between), "removed" if between else "isolated")
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    tokenizer.add_special_tokens([*BERT_SPECIAL])
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    write_settings(directory, "PreTrainedTokenizerFast", model_max_length=1024, **BERT_NAMES)
    return len(words)


SENTINELS = tuple(f"<extra_id_{number}>" for number in range(100))
T5_SPECIAL = ("<pad>", "</s>", "<unk>")


def write_unigram(
    directory: Path,
    pieces: Sequence[str],
    *,
    blanks: bool,
    special: Sequence[str] = (),
    kind: str = "PreTrainedTokenizerFast",
) -> int:
    """T5's tokenizer. With `blanks` a piece begins with the mark of a blank, and needs one before it."""
    scored = [(name, 0.0) for name in T5_SPECIAL]
    scored += [(piece, -2 - index / 100) for index, piece in enumerate(pieces)]
    scored += [(name, 0.0) for name in (*special, *SENTINELS)]
    tokenizer = Tokenizer(models.Unigram(scored, unk_id=2))
    if blanks:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
        tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    tokenizer.add_special_tokens([*T5_SPECIAL, *special, *SENTINELS])
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    names = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    write_settings(directory, kind, **names)
    return len(scored)


def sentencepiece_model(pieces: Sequence[tuple[str, float, int]]) -> bytes:
    """The bytes of a spiece.model: pieces of a score and a type (1 normal, 2 unknown, 3 control).

    https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto
    """

    def field(number: int, data: bytes) -> bytes:
        return bytes([number << 3 | 2]) + _varint(len(data)) + data

    body = b"".join(
        field(1, field(1, piece.encode()) + b"\x15" + struct.pack("<f", score) + b"\x18" + bytes([kind]))
        for piece, score, kind in pieces
    )
    trained = b"\x18\x01" + b"\x20" + _varint(len(pieces))  # model_type UNIGRAM, vocab_size
    return body + field(2, trained)


def _varint(number: int) -> bytes:
    if number < 128:
        return bytes([number])
    return bytes([number & 127 | 128]) + _varint(number >> 7)
