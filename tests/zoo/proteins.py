"""Protein language models as their directories are laid out on the hub, small and with random weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    BertConfig,
    BertModel,
    EsmcConfig,
    EsmcForMaskedLM,
    EsmConfig,
    EsmcTokenizer,
    EsmForMaskedLM,
    EsmModel,
    EsmTokenizer,
    PreTrainedModel,
    RoFormerConfig,
    RoFormerModel,
    T5Config,
    T5EncoderModel,
    T5ForConditionalGeneration,
)

from tests.support.model_directories import randomize, with_contact_head
from tests.zoo.vocabularies import (
    BERT_NAMES,
    BERT_SPECIAL,
    ESM2_VOCABULARY,
    sentencepiece_model,
    wordpiece,
    write_settings,
    write_unigram,
    write_wordpiece,
)

SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
}
T5_SHAPE: dict[str, Any] = {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4}
PROTBERT_TOKENS = (*BERT_SPECIAL, *"LAGVESIKRDTPNQFYMHCWXUBZO")
_RESIDUES = "ALGVSREDTIPKFQNYMHWCXBOUZ"


def save(model: PreTrainedModel, directory: Path, dtype: torch.dtype = torch.float32) -> None:
    randomize(model)
    model.to(dtype).save_pretrained(directory)


# ---- ESM


def esm2(directory: Path, *, dtype: torch.dtype = torch.float32, **changed: Any) -> None:
    esm(directory, position_embedding_type="rotary", dtype=dtype, **changed)


def esm2_with_contacts(directory: Path) -> None:
    """With a contact head of numbers as training leaves them."""
    esm2(directory, masked_lm=True)
    with_contact_head(directory)


def esm1v(directory: Path) -> None:
    """Learned positions. https://huggingface.co/facebook/esm1v_t33_650M_UR90S_1/blob/main/config.json"""
    esm(directory, position_embedding_type="absolute", max_position_embeddings=1026)


def esm1b(directory: Path) -> None:
    """Learned positions, and a norm before the first layer.

    https://huggingface.co/facebook/esm1b_t33_650M_UR50S/blob/main/config.json
    """
    esm(directory, position_embedding_type="absolute", emb_layer_norm_before=True)


def esm(
    directory: Path,
    tokens: Sequence[str] = ESM2_VOCABULARY,
    *,
    dtype: torch.dtype = torch.float32,
    masked_lm: bool = False,
    **changed: Any,
) -> None:
    ids = {token: index for index, token in enumerate(tokens)}
    fields = {
        "vocab_size": len(tokens), "pad_token_id": ids["<pad>"], "mask_token_id": ids["<mask>"],
        "position_embedding_type": "rotary", "token_dropout": True, "emb_layer_norm_before": False,
        "layer_norm_eps": 1e-5, "max_position_embeddings": 1026,
    }  # fmt: skip
    config = EsmConfig(**{**SHAPE, **fields, **changed})
    model = EsmForMaskedLM(config) if masked_lm else EsmModel(config, add_pooling_layer=False)
    save(model, directory, dtype)
    esm_tokenizer(directory, tokens)


def esm_tokenizer(directory: Path, tokens: Sequence[str], **names: Any) -> None:
    (directory / "vocab.txt").write_text("\n".join(tokens))
    EsmTokenizer(str(directory / "vocab.txt"), **names).save_pretrained(directory)


def esm2_in_another_order(directory: Path) -> None:
    esm2_tokens = ("<pad>", "<mask>", "<cls>", "<eos>", "<unk>", *"ACDEFGHIKLMNPQRSTVWYXBUZO.-")
    esm(directory, esm2_tokens)


def saprot(directory: Path) -> None:
    """https://huggingface.co/westlake-repl/SaProt_650M_AF2/blob/main/vocab.txt"""
    pairs = [residue + shape for residue in "ACDEFGHIKLMNPQRSTVWY#" for shape in "pynwrqhgdlvtmfsaeikc#"]
    esm(directory, ("<cls>", "<pad>", "<eos>", "<unk>", "<mask>", *pairs), masked_lm=True)


def esmc(directory: Path) -> None:
    save(EsmcForMaskedLM(EsmcConfig(**SHAPE)), directory)
    EsmcTokenizer().save_pretrained(directory)


# ---- BERT


def protbert(directory: Path) -> None:
    """https://huggingface.co/Rostlab/prot_bert: vocab.txt, no tokenizer.json."""
    bert_of_residues(directory, PROTBERT_TOKENS)


def igbert(directory: Path) -> None:
    """https://huggingface.co/Exscientia/IgBert: with a tokenizer.json."""
    bert_of_residues(directory, PROTBERT_TOKENS, files=("vocab.txt", "tokenizer.json"))


def antiberty(directory: Path) -> None:
    """https://github.com/jeffreyruffolo/AntiBERTy: the 20 residues alone."""
    bert_of_residues(directory, (*BERT_SPECIAL, *"ACDEFGHIKLMNPQRSTVWY"))


def bert_of_residues(directory: Path, tokens: Sequence[str], files: Sequence[str] = ("vocab.txt",)) -> None:
    fields = {**SHAPE, "max_position_embeddings": 512, "pad_token_id": 0, "vocab_size": len(tokens)}
    save(BertModel(BertConfig(**fields)), directory)
    write_wordpiece(directory, tokens, files=files, most=512)


def antiberta2(directory: Path, *, fast: bool = True) -> None:
    """https://huggingface.co/alchemab/antiberta2: RoFormer; its own tokenizer wants rjieba."""
    fields = {**SHAPE, "embedding_size": 64, "max_position_embeddings": 256}
    save(RoFormerModel(RoFormerConfig(**fields, vocab_size=len(PROTBERT_TOKENS))), directory)
    (directory / "vocab.txt").write_text("\n".join(PROTBERT_TOKENS) + "\n")
    if fast:
        wordpiece(PROTBERT_TOKENS).save(str(directory / "tokenizer.json"))
    kind = "PreTrainedTokenizerFast" if fast else "RoFormerTokenizer"
    write_settings(directory, kind, do_lower_case=False, **BERT_NAMES)


# ---- T5


def prott5(directory: Path) -> None:
    """https://huggingface.co/Rostlab/prot_t5_xl_half_uniref50-enc: the encoder alone, in float16."""
    num = write_unigram(directory, [f"▁{residue}" for residue in _RESIDUES], blanks=True)
    save(T5EncoderModel(t5_config(num)), directory, torch.float16)


def prott5_of_spiece(directory: Path) -> None:
    """The same with spiece.model alone, as all of them lie on the hub."""
    pieces = [("<pad>", 0.0, 3), ("</s>", 0.0, 3), ("<unk>", 0.0, 2)]
    pieces += [(f"▁{residue}", -2 - index / 100, 1) for index, residue in enumerate(_RESIDUES)]
    save(T5EncoderModel(t5_config(len(pieces) + 100)), directory)
    (directory / "spiece.model").write_bytes(sentencepiece_model(pieces))
    names = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    write_settings(directory, "T5Tokenizer", extra_ids=100, do_lower_case=False, **names)


def prott5_whole(directory: Path) -> None:
    """https://huggingface.co/Rostlab/prot_t5_xl_uniref50: with the decoder."""
    num = write_unigram(directory, [f"▁{residue}" for residue in _RESIDUES], blanks=True)
    save(T5ForConditionalGeneration(t5_config(num)), directory)


def prostt5(directory: Path) -> None:
    """https://huggingface.co/Rostlab/ProstT5: 3Di letters in lower case, and a prefix for each direction."""
    pieces = [f"▁{letter}" for letter in (*_RESIDUES, *"acdefghiklmnpqrstvwy")]
    num = write_unigram(directory, pieces, blanks=True, special=("<fold2AA>", "<AA2fold>"))
    save(T5EncoderModel(t5_config(num)), directory, torch.float16)


def ankh(directory: Path, *, kind: str = "PreTrainedTokenizerFast") -> None:
    """https://huggingface.co/ElnaggarLab/ankh-base: residues without blanks, a gated feed-forward."""
    num = write_unigram(directory, [*_RESIDUES], blanks=False, kind=kind)
    save(T5EncoderModel(t5_config(num, feed_forward_proj="gated-gelu")), directory)


def t5_config(num_tokens: int, **changed: Any) -> T5Config:
    fields = {"vocab_size": num_tokens, "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
    return T5Config(**{**T5_SHAPE, **fields, **changed})
