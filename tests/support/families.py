"""Small models of families that want their sequences written in a way of their own, with random weights."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from transformers import (
    AutoConfig,
    AutoModel,
    BertConfig,
    BertModel,
    BertTokenizer,
    EsmConfig,
    EsmForMaskedLM,
    EsmTokenizer,
    PreTrainedModel,
    T5EncoderModel,
)

from tests.support.model_directories import TINY, randomize, save_byte_tokenizer
from tests.zoo.proteins import t5_config
from tests.zoo.vocabularies import write_unigram

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
RESIDUES = "ALGVSREDTIPKFQNYMHWCXBOUZ"
PAIRS = tuple(map("".join, product("ACDEFGHIKLMNPQRSTVWY#", "pynwrqhgdlvtmfsaeikc#")))


def save_protbert(directory: Path) -> Path:
    """https://huggingface.co/Rostlab/prot_bert/blob/main/vocab.txt"""
    return _save_bert(directory, "LAGVESIKRDTPNQFYMHCWXUBZO")


def save_dnabert(directory: Path) -> Path:
    """https://huggingface.co/zhihan1996/DNA_bert_3/blob/main/vocab.txt"""
    return _save_bert(directory, [*map("".join, product("ATCG", repeat=3))])


def save_codonbert(directory: Path) -> Path:
    """https://github.com/Sanofi-Public/CodonBERT"""
    return _save_bert(directory, [*map("".join, product("AUGC", repeat=3))])


def save_saprot(directory: Path) -> Path:
    """https://huggingface.co/westlake-repl/SaProt_650M_AF2/blob/main/vocab.txt"""
    tokens = ("<cls>", "<pad>", "<eos>", "<unk>", "<mask>", *PAIRS)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "vocab.txt").write_text("\n".join(tokens))
    EsmTokenizer(str(directory / "vocab.txt")).save_pretrained(directory)
    config = EsmConfig(
        **TINY, num_attention_heads=4, intermediate_size=160, vocab_size=len(tokens), pad_token_id=1,
        mask_token_id=4, position_embedding_type="rotary", token_dropout=True, max_position_embeddings=1026,
    )  # fmt: skip
    randomize(model := EsmForMaskedLM(config))
    model.save_pretrained(directory)
    return directory


def _save_bert(directory: Path, words: Sequence[str]) -> Path:
    tokens = (*SPECIAL, *words)
    config = BertConfig(
        **TINY, num_attention_heads=4, intermediate_size=160, max_position_embeddings=512,
        vocab_size=len(tokens),
    )  # fmt: skip
    randomize(model := BertModel(config, add_pooling_layer=False))
    model.save_pretrained(directory)
    ids = {token: index for index, token in enumerate(tokens)}
    BertTokenizer(vocab=ids, do_lower_case=False).save_pretrained(directory)
    return directory


def save_of_type(directory: Path, model_type: str, processor: object, **shape: Any) -> Path:
    """Random weights of a model type, with a byte-level tokenizer."""
    special = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "cls_token_id": 0, "sep_token_id": 2}
    config = AutoConfig.for_model(model_type, **{"vocab_size": 300, **special, **shape})
    randomize(model := AutoModel.from_config(config))
    model.save_pretrained(directory)
    save_byte_tokenizer(directory, processor)
    return directory


def save_t5(directory: Path, kind: type[PreTrainedModel] = T5EncoderModel, **changed: Any) -> Path:
    """Residues are words of the tokenizer, as ProtT5's are. `changed` goes to the config."""
    num = write_unigram(directory, [f"▁{residue}" for residue in RESIDUES], blanks=True)
    config = t5_config(num, **changed)
    if kind.config_class is not type(config):
        config = kind.config_class(**{**config.to_dict(), **changed})
    randomize(model := kind(config))
    model.save_pretrained(directory)
    return directory
