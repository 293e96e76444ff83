"""Text models with the tokenizer files that their kinds are published with, small and with random weights."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import T5EncoderModel, XLMRobertaConfig, XLMRobertaModel

from tests.support.model_directories import change_json
from tests.zoo.proteins import SHAPE, T5_SHAPE, save, t5_config
from tests.zoo.vocabularies import (
    BERT_NAMES,
    ROBERTA_NAMES,
    WORDS,
    sentencepiece_model,
    wordpiece,
    write_bytes,
    write_json,
    write_settings,
    write_wordpiece,
)

POSITIONS = 66
"""Few, so that a text can be longer."""
ROBERTA_IDS: dict[str, Any] = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
BEGIN_AND_END = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
BEGIN = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
END = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
NONE = processors.ByteLevel(trim_offsets=False)

_BARTISH = {
    "d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128, "decoder_start_token_id": 2,
}  # fmt: skip
_GROUPED = {**SHAPE, "num_key_value_heads": 2, "head_dim": 32}
_GEMMA = {**_GROUPED, "sliding_window": 16, "use_bidirectional_attention": True}
OTHERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "roberta": (None, {**SHAPE, "type_vocab_size": 1}),
    "xlm-roberta": (None, {**SHAPE, "type_vocab_size": 1}),
    "mpnet": (None, SHAPE),
    "electra": (None, {**SHAPE, "embedding_size": 32}),
    "distilbert": (None, {"dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128}),
    "albert": (None, {**SHAPE, "embedding_size": 32}),
    "deberta-v2": (None, {**SHAPE, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]}),
    "modernbert": (None, {**SHAPE, "local_attention": 8, "global_attn_every_n_layers": 2}),
    "nomic_bert": (None, SHAPE),
    "bart": (None, _BARTISH),
    "gpt2": (NONE, {"n_embd": 64, "n_layer": 2, "n_head": 4}),
    "llama": (BEGIN, SHAPE),
    "qwen3": (END, _GROUPED),
    "gemma3_text": (BEGIN_AND_END, _GEMMA),
}
"""Model types that are saved with a byte-level tokenizer: its special tokens and the shape."""


def other(kind: str) -> Callable[[Path], None]:
    """One of OTHERS."""

    def make(directory: Path) -> None:
        template, shape = OTHERS[kind]
        num = write_bytes(directory, template=template, kind="PreTrainedTokenizerFast")
        ids = {**ROBERTA_IDS, "cls_token_id": 0, "sep_token_id": 2, "vocab_size": num}
        config = transformers.AutoConfig.for_model(
            kind, **{**ids, "max_position_embeddings": POSITIONS, **shape}
        )
        save(transformers.AutoModel.from_config(config), directory)

    return make


def t5(directory: Path) -> None:
    num = write_bytes(directory, template=END, kind="PreTrainedTokenizerFast", most=512)
    save(transformers.T5EncoderModel(t5_config(num, pad_token_id=1, eos_token_id=2)), directory)


def byt5(directory: Path) -> None:
    """A tokenizer without files: bytes."""
    transformers.ByT5Tokenizer().save_pretrained(directory)
    save(transformers.T5EncoderModel(t5_config(384, **T5_SHAPE)), directory)


# ---- BERT


def bert(directory: Path, *, kind: str = "BertModel", num_tokens: int = len(WORDS), **changed: Any) -> None:
    """With both files of its tokenizer, cased."""
    bert_weights(directory, num_tokens, kind=kind, **changed)
    write_wordpiece(directory)


def bert_weights(directory: Path, num_tokens: int, *, kind: str = "BertModel", **changed: Any) -> None:
    fields = {**SHAPE, "vocab_size": num_tokens, "max_position_embeddings": POSITIONS, "pad_token_id": 0}
    save(getattr(transformers, kind)(transformers.BertConfig(**{**fields, **changed})), directory)


def bert_of(
    *, lower: bool, stated_lower: bool | None = None, files: Iterable[str] = ("vocab.txt", "tokenizer.json")
) -> Callable[[Path], None]:
    """A BERT whose tokenizer lowers what it reads, or says so and does not."""

    def make(directory: Path) -> None:
        bert_weights(directory, len(WORDS))
        write_wordpiece(directory, lower=lower, stated_lower=stated_lower, files=files)

    return make


def bert_with_added_tokens(directory: Path) -> None:
    """Tokens that tokenizer_config.json adds, and tokenizer.json does not have."""
    bert_weights(directory, len(WORDS) + 2)
    write_wordpiece(directory)
    added = {len(WORDS): "GroEL", len(WORDS) + 1: "hemolysin"}
    flags = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": False}
    decoder = {str(index): {"content": word, **flags} for index, word in added.items()}
    change_json(directory / "tokenizer_config.json", added_tokens_decoder=decoder)
    write_json(directory / "added_tokens.json", {word: index for index, word in added.items()})


def bert_with_token_types(directory: Path) -> None:
    """A tokenizer that makes token types of 1 all along."""
    bert(directory)
    _change_tokenizer(
        directory,
        processors.TemplateProcessing(
            single="[CLS]:1 $A:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        ),
    )
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    write_settings(
        directory, "PreTrainedTokenizerFast", model_max_length=64, model_input_names=inputs, **BERT_NAMES
    )


def bert_without_sep(directory: Path) -> None:
    bert(directory)
    _change_tokenizer(
        directory, processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 2)])
    )
    write_settings(directory, "PreTrainedTokenizerFast", model_max_length=64, **BERT_NAMES)


def bert_of_another_normalizer(kind: str) -> Callable[[Path], None]:
    """Its tokenizer.json is no longer what the tokenizer's class makes of the vocabulary."""

    def make(directory: Path) -> None:
        bert(directory)
        tokenizer = wordpiece()
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        tokenizer.save(str(directory / "tokenizer.json"))
        write_settings(directory, kind, do_lower_case=False, model_max_length=64, **BERT_NAMES)

    return make


def bert_that_truncates(directory: Path) -> None:
    """A tokenizer.json that was saved with truncation and padding on."""
    bert(directory)
    tokenizer = wordpiece()
    tokenizer.enable_truncation(32)
    tokenizer.enable_padding(length=32)
    tokenizer.save(str(directory / "tokenizer.json"))


def _change_tokenizer(directory: Path, template: Any) -> None:
    tokenizer = wordpiece()
    tokenizer.post_processor = template
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "vocab.txt").unlink()


# ---- RoBERTa, LLaMA


def roberta_of(files: Iterable[str], **settings: Any) -> Callable[[Path], None]:
    """A RoBERTa whose tokenizer lies in some of vocab.json with merges.txt and tokenizer.json."""

    def make(directory: Path) -> None:
        num = write_bytes(directory, files=files, **settings)
        fields = {**SHAPE, **ROBERTA_IDS, "type_vocab_size": 1, "max_position_embeddings": POSITIONS}
        save(transformers.RobertaModel(transformers.RobertaConfig(**fields, vocab_size=num)), directory)

    return make


def llama_of(**settings: Any) -> Callable[[Path], None]:
    """A LLaMA whose tokenizer_config.json says which special tokens are added."""

    def make(directory: Path) -> None:
        _write_llama_tokenizer(directory, **settings)
        fields = {**SHAPE, "num_key_value_heads": 2, "max_position_embeddings": POSITIONS}
        save(transformers.LlamaModel(transformers.LlamaConfig(**fields, vocab_size=_num_llama())), directory)

    return make


_LLAMA_PIECES = (
    "<unk>",
    "<s>",
    "</s>",
    *(f"<0x{byte:02X}>" for byte in range(256)),
    "▁",
    *"abcdefghijklmnoprstuvwy",
)


def _num_llama() -> int:
    return len(_LLAMA_PIECES)


def _write_llama_tokenizer(directory: Path, kind: str = "LlamaTokenizer", **settings: Any) -> None:
    ids = {piece: index for index, piece in enumerate(_LLAMA_PIECES)}
    tokenizer = Tokenizer(models.BPE(ids, [], byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    write_settings(directory, kind, model_max_length=64, legacy=False, **names, **settings)


# ---- SentencePiece alone

_PIECES = [(f"▁{word}", -3.0, 1) for word in ("the", "protein", "kinase", "of")]
_PIECES += [(letter, -5.0, 1) for letter in ("▁", *"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")]


def t5_of_spiece(directory: Path) -> None:
    """A T5 with spiece.model alone, as the first ones were published."""
    pieces = [("<pad>", 0.0, 3), ("</s>", 0.0, 3), ("<unk>", 0.0, 2), *_PIECES]
    save(T5EncoderModel(t5_config(len(pieces) + 100)), directory)
    (directory / "spiece.model").write_bytes(sentencepiece_model(pieces))
    names = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    write_settings(directory, "T5Tokenizer", extra_ids=100, model_max_length=512, **names)


def xlm_roberta_of_sentencepiece(directory: Path) -> None:
    pieces = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3), *_PIECES]
    fields = {**SHAPE, **ROBERTA_IDS, "type_vocab_size": 1, "vocab_size": len(pieces) + 2}
    save(XLMRobertaModel(XLMRobertaConfig(**fields, max_position_embeddings=66)), directory)
    (directory / "sentencepiece.bpe.model").write_bytes(sentencepiece_model(pieces))
    write_settings(directory, "XLMRobertaTokenizer", model_max_length=64, **ROBERTA_NAMES)
