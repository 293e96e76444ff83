"""The table: each model of the zoo, what it is given, and its reference, or the words of its refusal."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from tests.zoo import bases, proteins, texts, unusable
from tests.zoo.records import (
    ANTIBODIES,
    CODONS,
    DNA,
    LONG_PROTEINS,
    LONG_TEXTS,
    MOLECULES,
    PLAIN_DNA,
    PROTEINS,
    RNA,
    STRUCTURES,
    TEXTS,
)
from tests.zoo.reference import (
    ANKH,
    ANTIBODY,
    CODONBERT,
    PLAIN,
    PROSTT5,
    PROTBERT,
    PROTT5,
    SAPROT_RESIDUES,
    Reading,
    Vectors,
    adapted_vectors,
    contact_maps,
    dnabert,
    mosaic_vectors,
    read_as,
    sentence_vectors,
)
from tests.zoo.sentences import FLAGS, sentences
from tests.zoo.unusable import changed, with_adapter, with_keys, without

Reference = Callable[[Path, Sequence[str]], Vectors]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Without `reference` the directory must be refused; without `words`, which a refusal must name, it must
    not. With both, either answer is right. `pool` is the option; None is the directory's own.
    """

    family: str
    layout: str
    make: Callable[[Path], None]
    records: tuple[str, ...] = TEXTS
    reference: Reference | None = None
    words: tuple[str, ...] = ()
    pool: str | None = None

    @property
    def name(self) -> str:
        return f"{self.family}: {self.layout}"


def _right(
    family: str,
    layout: str,
    make: Callable[[Path], None],
    records: tuple[str, ...] = TEXTS,
    reference: Reference | None = None,
    *words: str,
) -> Row:
    return Row(family, layout, make, records, reference or read_as(PLAIN), words)


def _pooled(
    family: str, pool: str, make: Callable[[Path], None], records: tuple[str, ...], reading: Reading
) -> Row:
    return Row(family, f"--pool {pool}", make, records, read_as(reading, pool), pool=pool)


def _refused(family: str, layout: str, make: Callable[[Path], None], *words: str) -> Row:
    return Row(family, layout, make, words=words)


def _sentences(layout: str, make: Callable[[Path], None], *words: str, family: str = "BERT") -> Row:
    return Row(family, f"sentences, {layout}", make, LONG_TEXTS, sentence_vectors, words)


def _of_proteins() -> list[Row]:
    protbert, antibody = read_as(PROTBERT), read_as(ANTIBODY)
    esm2 = proteins.esm2
    return [
        _right("ESM-2", "as published", esm2, LONG_PROTEINS),
        _right("ESM-2", "float16", partial(esm2, dtype=torch.float16), PROTEINS),
        _right("ESM-2", "with the head of its training", partial(esm2, masked_lm=True), PROTEINS),
        _right("ESM-2", "without token dropout", partial(esm2, token_dropout=False), PROTEINS),
        _right("ESM-2", "tokens in another order", proteins.esm2_in_another_order, PROTEINS),
        _right("ESM-2", "more embeddings than tokens", partial(esm2, vocab_size=64), PROTEINS),
        _right(
            "ESM-2",
            "norm before the layers",
            partial(esm2, emb_layer_norm_before=True),
            PROTEINS,
            None,
            "config.json",
            "emb_layer_norm_before",
        ),
        _right("ESM-1b", "as published", proteins.esm1b, PROTEINS),
        _right("ESM-1v", "as published", proteins.esm1v, PROTEINS),
        _right("ESM-C", "as published", proteins.esmc, LONG_PROTEINS),
        _right("ProtBERT", "vocab.txt", proteins.protbert, PROTEINS, protbert),
        _right("ProtT5", "the encoder, float16", proteins.prott5, LONG_PROTEINS, read_as(PROTT5)),
        _right("ProtT5", "with the decoder", proteins.prott5_whole, PROTEINS, read_as(PROTT5)),
        _right("ProstT5", "as published", proteins.prostt5, LONG_PROTEINS, read_as(PROSTT5)),
        _right("Ankh", "as published", proteins.ankh, LONG_PROTEINS, read_as(ANKH)),
        _right(
            "Ankh",
            "T5Tokenizer",
            partial(proteins.ankh, kind="T5Tokenizer"),
            PROTEINS,
            read_as(ANKH),
            "tokenizer",
        ),
        _right("ProtT5", "spiece.model alone", proteins.prott5_of_spiece, PROTEINS, read_as(PROTT5)),
        _right("SaProt", "residues alone", proteins.saprot, PROTEINS[1:], read_as(SAPROT_RESIDUES), "vocab"),
        _right("SaProt", "residues and 3Di letters", proteins.saprot, STRUCTURES, None, "vocab"),
        _right("AntiBERTy", "vocab.txt", proteins.antiberty, ANTIBODIES, antibody),
        _right("IgBert", "tokenizer.json", proteins.igbert, ANTIBODIES, antibody),
        _right("AntiBERTa2", "tokenizer.json", proteins.antiberta2, ANTIBODIES, antibody),
        *(_pooled("ESM-2", pool, esm2, PROTEINS, PLAIN) for pool in ("cls", "max", "last")),
        Row("ESM-2", "--pool contacts", proteins.esm2_with_contacts, PROTEINS, contact_maps, pool="contacts"),
        *(
            _pooled("ProtBERT", pool, proteins.protbert, PROTEINS, PROTBERT)
            for pool in ("cls", "max", "last")
        ),
        *(_pooled("ProtT5", pool, proteins.prott5, PROTEINS, PROTT5) for pool in ("max", "last")),
        _refused("AntiBERTa2", "RoFormerTokenizer", unusable.antiberta2_of_the_hub, "rjieba"),
    ]


def _of_bases() -> list[Row]:
    kmers = [
        _right(
            f"DNABERT, k = {length}",
            "vocab.txt",
            partial(bases.dnabert, length=length),
            PLAIN_DNA,
            read_as(dnabert(length)),
        )
        for length in (3, 4, 5, 6)
    ]
    return [
        _right("Nucleotide Transformer", "6-mers", bases.nucleotide_transformer, DNA),
        *kmers,
        _right("DNABERT-2", "model.safetensors", bases.dnabert2, DNA, mosaic_vectors),
        _refused("DNABERT-2", "pytorch_model.bin", unusable.dnabert2_of_the_hub, "pytorch_model.bin"),
        _right("CodonBERT", "as published", bases.codonbert, CODONS, read_as(CODONBERT)),
        _right("RNA-FM's alphabet", "tokenizer.json", bases.rna_letters, RNA),
    ]


def _of_texts() -> list[Row]:
    bert, both = texts.bert_of, ("vocab.txt", "tokenizer.json")
    files = ("vocab.json", "merges.txt")
    return [
        _right("BERT", "tokenizer.json", texts.bert),
        _right("BERT", "vocab.txt, cased", bert(lower=False, files=both[:1])),
        _right("BERT", "vocab.txt, lower case", bert(lower=True, files=both[:1])),
        _right("BERT", "tokenizer.json lowers, the config does not", bert(lower=True, stated_lower=False)),
        _right("BERT", "the config lowers, tokenizer.json does not", bert(lower=False, stated_lower=True)),
        _right("BERT", "tokens added by tokenizer_config.json", texts.bert_with_added_tokens),
        _right("BERT", "token types of 1", texts.bert_with_token_types, TEXTS, None, "token"),
        _right("BERT", "no [SEP]", texts.bert_without_sep),
        _right("BERT", "another normalizer", texts.bert_of_another_normalizer("PreTrainedTokenizerFast")),
        _right(
            "BERT",
            "another normalizer, BertTokenizerFast",
            texts.bert_of_another_normalizer("BertTokenizerFast"),
        ),
        _right("BERT", "truncation saved in tokenizer.json", texts.bert_that_truncates),
        _right("T5", "spiece.model alone", texts.t5_of_spiece),
        _right("XLM-RoBERTa", "sentencepiece.bpe.model alone", texts.xlm_roberta_of_sentencepiece),
        _right(
            "BERT",
            "is_decoder",
            partial(texts.bert, is_decoder=True),
            TEXTS,
            None,
            "config.json",
            "is_decoder",
        ),
        _right("BERT", "pickled weights beside safetensors", changed(texts.bert, unusable.pickled_beside)),
        _right("BERT", "bfloat16", changed(texts.bert, unusable.in_bfloat16)),
        _right("BERT", "weights in parts", changed(texts.bert, unusable.in_parts)),
        _right("BERT", "links, as in a hub cache", unusable.hub_snapshot),
        _right("RoBERTa", "vocab.json and merges.txt", texts.roberta_of(files), MOLECULES),
        _right("RoBERTa", "tokenizer.json", texts.roberta_of((*files, "tokenizer.json")), MOLECULES),
        _right(
            "RoBERTa", "add_prefix_space", texts.roberta_of((*files, "tokenizer.json"), add_prefix_space=True)
        ),
        _right(
            "LLaMA", "add_bos_token and add_eos_token", texts.llama_of(add_bos_token=True, add_eos_token=True)
        ),
        _right("LLaMA", "add_bos_token: false", texts.llama_of(add_bos_token=False, add_eos_token=False)),
        *(_pooled("BERT", pool, texts.bert, TEXTS, PLAIN) for pool in ("cls", "max", "last")),
        _right("T5", "tokenizer.json", texts.t5),
        _right("ByT5", "no files", texts.byt5),
        *(
            _right(_NAMES[kind], "tokenizer.json", texts.other(kind))
            for kind in texts.OTHERS
            if kind != "roberta"
        ),
    ]


_NAMES = {
    "xlm-roberta": "XLM-RoBERTa", "mpnet": "MPNet", "electra": "ELECTRA", "distilbert": "DistilBERT",
    "albert": "ALBERT", "deberta-v2": "DeBERTa", "modernbert": "ModernBERT", "nomic_bert": "Nomic BERT",
    "bart": "BART (its encoder)", "gpt2": "GPT-2", "llama": "LLaMA", "qwen3": "Qwen3",
    "gemma3_text": "Gemma 3",
}  # fmt: skip


def _of_sentences() -> list[Row]:
    prompts = {"query": "query: ", "document": "passage: "}
    default = {"prompts": prompts, "default_prompt_name": "query"}
    dense, pooled = ("Pooling", "Dense"), ("Pooling", "Normalize")
    return [
        *(_sentences(f"pooling {mode}", sentences(pool=mode)) for mode in FLAGS),
        _sentences("pooling cls and mean", sentences(pool=("cls", "mean"))),
        _sentences("pooling max and weightedmean", sentences(pool=("max", "weightedmean"), flags=False)),
        _sentences("Normalize", sentences(modules=pooled)),
        _sentences("Dense, Normalize", sentences(modules=(*dense, "Normalize"))),
        _sentences(
            "Dense, Identity", sentences(modules=dense, dense={"activation": "Identity", "bias": False})
        ),
        _sentences("Dense, GELU", sentences(modules=dense, dense={"activation": "GELU"})),
        _sentences("two Dense", sentences(modules=(*dense, "Dense"), dense={"outputs": 64})),
        _sentences(
            "Dense with a residual",
            sentences(modules=dense, dense={"use_residual": True}),
            "2_Dense/config.json",
            "use_residual",
        ),
        _sentences("LayerNorm", sentences(modules=("Pooling", "LayerNorm"))),
        _sentences("Dropout", sentences(modules=("Pooling", "Dropout")), "modules.json", "Dropout"),
        _sentences("truncate_dim", sentences(settings={"truncate_dim": 16})),
        # Of unit length again behind the cut, which sentence-transformers does when it is asked to.
        replace(
            _sentences("truncate_dim, Normalize", sentences(modules=pooled, settings={"truncate_dim": 16})),
            reference=partial(sentence_vectors, normalize_embeddings=True),
        ),
        _sentences("prompts, none by default", sentences(settings={"prompts": prompts})),
        _sentences("default_prompt_name", sentences(settings=default)),
        _sentences(
            "a prompt that is not pooled",
            sentences(settings=default, pooling={"include_prompt": False}),
            "1_Pooling/config.json",
            "include_prompt",
        ),
        _sentences("do_lower_case", sentences(do_lower_case=True)),
        _sentences("max_seq_length", sentences(max_seq_length=20)),
        _sentences("no max_seq_length", sentences(max_seq_length=None)),
        _sentences("two Pooling", sentences(modules=("Pooling", "Pooling")), "modules.json", "Pooling"),
        _sentences("in a folder", sentences(folder="0_Transformer")),
        _sentences("vocab.txt", sentences(texts.bert_of(lower=True, files=("vocab.txt",)))),
        _sentences(
            "is_decoder", sentences(partial(texts.bert, is_decoder=True)), "config.json", "is_decoder"
        ),
        Row(
            "ESM-2",
            "cls, Normalize",
            sentences(proteins.esm2, pooled, pool="cls"),
            PROTEINS,
            sentence_vectors,
        ),
        Row(
            "ESM-2",
            "in a folder",
            sentences(proteins.esm2, folder="0_Transformer"),
            PROTEINS,
            sentence_vectors,
        ),
        _sentences("mean", sentences(texts.other("mpnet"), pooled), family="MPNet"),
        _sentences("mean", sentences(texts.t5, pooled), family="T5"),
        _sentences(
            "lasttoken, Normalize", sentences(texts.other("qwen3"), pooled, pool="lasttoken"), family="Qwen3"
        ),
        _sentences("mean", sentences(texts.other("gemma3_text"), pooled), family="Gemma 3"),
        _sentences("mean", sentences(texts.other("bart")), "config.json", "decoder", family="BART"),
    ]


def _of_the_unusable() -> list[Row]:
    bert, esm2 = texts.bert, proteins.esm2
    lora = "adapter_config.json"
    automap = ("config.json", "auto_map")
    return [
        Row("ESM-2", "LoRA", changed(esm2, with_adapter()), PROTEINS, adapted_vectors, (lora,)),
        Row(
            "ESM-2",
            "LoRA, rank-stabilised",
            changed(esm2, with_adapter(use_rslora=True)),
            PROTEINS,
            adapted_vectors,
            (lora, "use_rslora"),
        ),
        _refused("ESM-2", "DoRA", changed(esm2, with_adapter(use_dora=True)), lora, "use_dora"),
        _refused("ESM-2", "LoRA with biases", changed(esm2, with_adapter(bias="all")), lora, "bias"),
        _refused("ESM-2", "another adapter", changed(esm2, with_adapter("LOHA")), lora, "peft_type"),
        _refused("ESM-2", "int8", unusable.esm2_in_int8, "config.json", "quantization_config"),
        _refused("BERT", "float8", unusable.bert_in_float8, "config.json", "quantization_config"),
        _refused("BERT", "code of its own", changed(bert, unusable.with_code), *automap),
        _refused(
            "ESM-2", "code of its own", changed(esm2, with_keys(auto_map={"AutoModel": "my.Esm"})), *automap
        ),
        _refused(
            "BERT",
            "a pooling of its own",
            sentences(modules=("my_pool.Pooling",)),
            "modules.json",
            "my_pool.Pooling",
        ),
        _refused("BERT", "CNN", sentences(modules=("CNN", "Pooling")), "modules.json", "CNN"),
        _refused("BERT", "LSTM", sentences(modules=("LSTM", "Pooling")), "modules.json", "LSTM"),
        _refused(
            "BERT",
            "WeightedLayerPooling",
            sentences(modules=("WeightedLayerPooling", "Pooling")),
            "modules.json",
            "WeightedLayerPooling",
        ),
        _refused("BERT", "no pooling", sentences(modules=()), "modules.json", "Pooling"),
        _refused(
            "StaticEmbedding", "sentences", unusable.static_embedding, "modules.json", "StaticEmbedding"
        ),
        _refused("model2vec", "sentences", unusable.model2vec, "modules.json", "StaticEmbedding"),
        _refused("Router", "sentences", unusable.router, "modules.json", "Router"),
        _refused(
            "CrossEncoder",
            "BERT",
            unusable.cross_encoder,
            "config_sentence_transformers.json",
            "CrossEncoder",
        ),
        _refused("Geneformer", "no tokenizer", unusable.geneformer, "tokenizer"),
        _refused("BERT", "pytorch_model.bin", unusable.pickled(bert), "pytorch_model.bin", "convert"),
        _refused("BERT", "no weights", changed(bert, without("model.safetensors")), "safetensors"),
        _refused("BERT", "weights cut off", changed(bert, unusable.cut_off), "model.safetensors"),
        _refused(
            "BERT", "a tensor lacks", changed(bert, unusable.without_a_tensor), "attention.self.query.weight"
        ),
        _refused(
            "BERT",
            "a part lacks",
            changed(bert, unusable.in_parts_of_which_one_is_missing),
            "model-00002-of-00002.safetensors",
        ),
        _refused("BERT", "fewer embeddings than tokens", unusable.bert_of_rows, "vocab_size"),
        _refused(
            "BERT",
            "jina's alibi",
            changed(bert, with_keys(position_embedding_type="alibi")),
            "config.json",
            "position_embedding_type",
        ),
        _refused("BERT", "the root of a hub cache", unusable.hub_cache, "snapshots"),
        _refused(
            "BERT",
            "an unknown model_type",
            changed(bert, with_keys(model_type="new")),
            "config.json",
            "model_type",
        ),
    ]


ROWS: tuple[Row, ...] = (
    *_of_proteins(),
    *_of_bases(),
    *_of_texts(),
    *_of_sentences(),
    *_of_the_unusable(),
)
