"""DNA and RNA language models as their directories are laid out on the hub, small and with random weights."""

from itertools import product
from pathlib import Path

from transformers import BertConfig, BertModel

from tests.support.model_directories import save_mosaic
from tests.zoo.proteins import SHAPE, esm, esm_tokenizer, save
from tests.zoo.vocabularies import BERT_NAMES, BERT_SPECIAL, write_settings, write_wordpiece, write_words


def nucleotide_transformer(directory: Path) -> None:
    """ESM over 6-mers, with learned positions and no token at the end.

    https://huggingface.co/InstaDeepAI/nucleotide-transformer-500m-human-ref/blob/main/vocab.txt
    """
    words = ["".join(letters) for letters in product("ATCG", repeat=6)]
    tokens = ("<unk>", "<pad>", "<mask>", "<cls>", "<eos>", "<bos>", *words, *"ATCGN")
    esm(
        directory, tokens, masked_lm=True, position_embedding_type="absolute", token_dropout=False,
        max_position_embeddings=1002, tie_word_embeddings=False,
    )  # fmt: skip
    esm_tokenizer(directory, tokens, eos_token=None, model_max_length=1000)


def dnabert(directory: Path, length: int) -> None:
    """https://huggingface.co/zhihan1996/DNA_bert_6/blob/main/vocab.txt, without the code that it names."""
    words = (*BERT_SPECIAL, *map("".join, product("ATCG", repeat=length)))
    fields = {**SHAPE, "max_position_embeddings": 512, "vocab_size": len(words)}
    save(BertModel(BertConfig(**fields)), directory)
    write_wordpiece(directory, words, files=("vocab.txt",), most=512)


def dnabert2(directory: Path) -> None:
    """https://huggingface.co/zhihan1996/DNABERT-2-117M, with its weights as safetensors."""
    save_mosaic(directory)
    write_settings(directory, "PreTrainedTokenizerFast", **BERT_NAMES)


def codonbert(directory: Path) -> None:
    """https://github.com/Sanofi-Public/CodonBERT: words of three bases."""
    words = (*BERT_SPECIAL, *map("".join, product("AUGCN", repeat=3)))
    _bert(directory, write_words(directory, words, between=r"\s+"))


def rna_letters(directory: Path) -> None:
    """The order of https://huggingface.co/multimolecule/rnafm/blob/main/vocab.txt, one letter a token."""
    words = (*BERT_SPECIAL, *"ACGUNRYSWKMBDHV.X*-I")
    _bert(directory, write_words(directory, words, between=""))


def _bert(directory: Path, num_tokens: int) -> None:
    save(BertModel(BertConfig(**SHAPE, max_position_embeddings=1024, vocab_size=num_tokens)), directory)
