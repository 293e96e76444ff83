"""BERT against sentence-transformers and transformers: the real MiniLM, and small random models."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from transformers import (
    AutoModel,
    AutoTokenizer,
    CamembertModel,
    PreTrainedModel,
    RobertaModel,
    XLMRobertaModel,
)

from gpu_tasks import load_model
from gpu_tasks.models.bert import Bert
from tests.support.model_directories import (
    MINILM,
    TINY,
    Tensors,
    change_config,
    change_json,
    change_weights,
    cosines,
    embed,
    plan_for,
    save_bert,
    save_roberta,
    spec_of,
)

WORDS = [
    "protein",
    "kinase",
    "of",
    "the",
    "ATP-binding",
    "subunit,",
    "Δ9-desaturase",
    "β-1,4",
    "(EC",
    "2.7.11.1)",
]


def words(count: int) -> str:
    return " ".join(random.Random(count).choices(WORDS, k=count))


TEXTS = [
    *(words(count) for count in range(1, 80, 3)),
    "",
    " ",
    ".",
    "  leading, trailing \t and\ninner   space ",
    "naïve café — “quoted” … ½ ﬁ",
    "Ünïcödé ÅÄÖ ß İstanbul",
    "蛋白质激酶抑制剂",
    "Протеинкиназа и её ингибитор",
    "😀 emoji 👩‍🔬 and a ZWJ",
    "e\u0301 combined, \u00e9 composed",
    "null \x00 and control \x07 characters",
    "[CLS] special [SEP] tokens [MASK] in the [PAD] text",
    "A" * 150,
]
LONG = words(1000)


def encode(directory: Path, texts: list[str]) -> np.ndarray:
    """By sentence-transformers."""
    vectors: np.ndarray = SentenceTransformer(str(directory), device="cpu").encode(texts)
    return vectors


# ---- MiniLM


@pytest.fixture(scope="module")
def minilm() -> SentenceTransformer:
    return SentenceTransformer(str(MINILM), device="cpu")


def test_minilm_has_the_vectors_of_sentence_transformers(minilm: SentenceTransformer) -> None:
    vectors, expected = embed(load_model(str(MINILM)), TEXTS), minilm.encode(TEXTS)
    assert cosines(vectors, expected).min() > 0.9999
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_minilm_has_vectors_of_unit_length_as_its_directory_says() -> None:
    norms = np.linalg.norm(embed(load_model(str(MINILM)), TEXTS), axis=1)
    np.testing.assert_allclose(norms, 1, atol=1e-6)


def test_a_truncated_text_has_the_vector_of_sentence_transformers(minilm: SentenceTransformer) -> None:
    model = load_model(str(MINILM))
    assert len(model.tokenize([LONG])[0]) > 256
    np.testing.assert_allclose(embed(model, [LONG], long="truncate"), minilm.encode([LONG]), atol=1e-5)


def test_a_windowed_text_counts_to_its_end_and_has_unit_length() -> None:
    vectors = embed(load_model(str(MINILM)), [LONG, f"{LONG} and a rabbit"], window_overlap=50)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert 0.9 < cosines(vectors[:1], vectors[1:]) < 0.9999


def test_texts_have_the_tokens_that_transformers_gives_them() -> None:
    model, tokenizer = load_model(str(MINILM)), AutoTokenizer.from_pretrained(MINILM)
    for text, payload in zip(TEXTS, model.tokenize(TEXTS), strict=True):
        assert [*model.prefix, *payload.tolist(), *model.suffix] == tokenizer(text)["input_ids"], text


def test_minilm_has_the_limits_that_its_directory_sets() -> None:
    model = load_model(str(MINILM))
    assert (model.max_length, model.dim, *model.readout.pools) == (254, 384, "mean")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_stays_close(minilm: SentenceTransformer, dtype: str) -> None:
    texts = TEXTS[:20]
    vectors = embed(load_model(str(MINILM), dtype=dtype), texts)
    assert cosines(vectors, minilm.encode(texts)).min() > 0.99


def test_a_text_alone_and_in_a_mixed_batch_has_the_same_vector() -> None:
    model = load_model(str(MINILM))
    alone = np.concatenate([embed(model, [text]) for text in TEXTS])
    np.testing.assert_allclose(embed(model, TEXTS), alone, atol=1e-5)


# ---- directories of sentence-transformers


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("tiny"))


def save_sentence_model(
    tiny: Path, directory: Path, *, pool: str = "mean", normalize: bool = False, **options: Any
) -> Path:
    """As sentence-transformers saves it."""
    modules = [Transformer(str(tiny), **options), Pooling(TINY["hidden_size"], pooling_mode=pool)]
    SentenceTransformer(modules=[*modules, *([Normalize()] if normalize else [])], device="cpu").save(
        str(directory), create_model_card=False
    )
    return directory


def test_the_longest_text_is_that_of_the_directory(tiny: Path, tmp_path: Path) -> None:
    """Version 6 of sentence-transformers writes it to the tokenizer's file."""
    directory = save_sentence_model(tiny, tmp_path, max_seq_length=20)
    assert load_model(str(directory)).max_length == spec_of(directory).max_length == 18
    np.testing.assert_allclose(
        embed(load_model(str(directory)), [LONG], long="truncate"), encode(directory, [LONG]), atol=1e-4
    )


def test_a_tokenizer_without_limit_leaves_the_positions_as_the_limit(tiny: Path, tmp_path: Path) -> None:
    directory = save_sentence_model(tiny, tmp_path)
    change_json(directory / "tokenizer_config.json", model_max_length=10**30)
    assert load_model(str(directory)).max_length == spec_of(directory).max_length == 510


def test_lower_casing_is_heeded(tiny: Path, tmp_path: Path) -> None:
    directory = save_sentence_model(tiny, tmp_path)
    change_json(directory / "sentence_bert_config.json", do_lower_case=True)
    cased = json.loads((directory / "tokenizer.json").read_bytes())
    cased["normalizer"]["lowercase"] = False
    (directory / "tokenizer.json").write_text(json.dumps(cased))
    lower, upper = load_model(str(directory)).tokenize(["kinase", "KINASE"])
    assert lower.tolist() == upper.tolist()


def test_a_transformer_in_a_folder_of_its_own_is_found(tiny: Path, tmp_path: Path) -> None:
    """As the first versions of sentence-transformers saved it; their later modules hold nothing else."""
    directory = put_transformer_aside(save_sentence_model(tiny, tmp_path, pool="cls", max_seq_length=20))
    model, card = load_model(str(directory)), spec_of(directory)
    assert (card.pool, card.dim, card.max_length) == (*model.readout.pools, model.dim, model.max_length)
    assert (card.pool, card.max_length) == ("cls", 18)
    vectors = embed(model, TEXTS[:9], long="truncate")
    np.testing.assert_allclose(vectors, encode(directory, TEXTS[:9]), atol=1e-4)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_the_fingerprint_changes_with_every_file_of_such_a_folder(
    tiny: Path, tmp_path: Path, name: str
) -> None:
    directory = put_transformer_aside(save_sentence_model(tiny, tmp_path))
    before = spec_of(directory).digest
    path = directory / "0_Transformer" / name
    content = path.read_bytes()
    path.write_bytes(content + b" " if name.endswith(".json") else content[:-1] + b"\x01")
    assert spec_of(directory).digest != before


def put_transformer_aside(directory: Path) -> Path:
    inner = directory / "0_Transformer"
    inner.mkdir()
    for path in list(directory.iterdir()):
        if path.is_file() and path.name not in ("modules.json", "config_sentence_transformers.json"):
            path.rename(inner / path.name)
    modules = json.loads((directory / "modules.json").read_bytes())
    modules[0]["path"] = inner.name
    (directory / "modules.json").write_text(json.dumps(modules))
    return directory


# ---- directories of transformers


def plain_means(directory: Path, texts: list[str]) -> np.ndarray:
    """By transformers, over the tokens of the text."""
    model = AutoModel.from_pretrained(directory, add_pooling_layer=False).eval()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    with torch.inference_mode():
        hidden = [model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0] for text in texts]
    return np.array([tokens[1:-1].mean(dim=0).numpy() for tokens in hidden])


def test_without_modules_the_tokens_of_the_text_alone_are_pooled(tiny: Path) -> None:
    texts = TEXTS[:20]
    np.testing.assert_allclose(embed(load_model(str(tiny)), texts), plain_means(tiny, texts), atol=1e-4)


def test_a_masked_language_model_has_the_vectors_of_its_encoder(tmp_path: Path) -> None:
    directory = save_bert(tmp_path, masked_lm=True)
    vectors = embed(load_model(str(directory)), TEXTS[:20])
    np.testing.assert_allclose(vectors, plain_means(directory, TEXTS[:20]), atol=1e-4)


def test_the_names_of_old_layer_norms_are_known(tiny: Path, tmp_path: Path) -> None:
    def rename(tensors: Tensors) -> None:
        for name in list(tensors):
            old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
                "LayerNorm.bias", "LayerNorm.beta"
            )
            tensors[old] = tensors.pop(name)

    directory = change_weights(save_bert(tmp_path), rename)
    assert embed(load_model(str(directory)), TEXTS[:9]).tobytes() == (
        embed(load_model(str(tiny)), TEXTS[:9]).tobytes()
    )


@pytest.mark.parametrize("changed", [{"layer_norm_eps": 0.1}, {"num_attention_heads": 8}], ids=str)
def test_the_configuration_is_heeded(tmp_path: Path, changed: dict[str, Any]) -> None:
    directory = save_bert(tmp_path, **changed)
    vectors = embed(load_model(str(directory)), TEXTS[:9])
    np.testing.assert_allclose(vectors, plain_means(directory, TEXTS[:9]), atol=1e-4)


@pytest.mark.parametrize("changed", [{"hidden_act": "gelu_new"}, {"is_decoder": True}], ids=str)
def test_a_variant_is_left_to_transformers(tmp_path: Path, changed: dict[str, Any]) -> None:
    directory = change_config(save_bert(tmp_path), **changed)
    model = load_model(str(directory))
    assert not isinstance(model.encoder, Bert)  # type: ignore[attr-defined]
    np.testing.assert_allclose(embed(model, TEXTS[:9]), plain_means(directory, TEXTS[:9]), atol=1e-4)


def test_a_segment_longer_than_the_positions_is_refused_before_it_reaches_the_device(tmp_path: Path) -> None:
    model = load_model(str(save_bert(tmp_path, max_position_embeddings=16)))
    fitting = plan_for(model, ["kinase " * 14]).batch(0)
    assert len(model.stage(fitting).launch("float32").wait().embeddings) == 1
    longer = plan_for(load_model(str(MINILM)), ["kinase " * 15]).batch(0)
    with pytest.raises(ValueError, match=r"a segment of 17 tokens, but .* has 16 positions"):
        model.stage(longer)


# ---- RoBERTa and its like: positions begin behind the padding


@pytest.mark.parametrize("kind", [RobertaModel, XLMRobertaModel, CamembertModel])
def test_roberta_and_its_like_have_the_vectors_of_transformers(
    tmp_path: Path, kind: type[PreTrainedModel]
) -> None:
    directory = save_roberta(tmp_path, kind)
    texts = [*TEXTS, "<pad>", "a <pad> in the <pad><pad> text, which has no <mask>"]
    vectors = embed(load_model(str(directory)), texts)
    np.testing.assert_allclose(vectors, plain_means(directory, texts), atol=1e-4)


@pytest.mark.parametrize("padding", [1, 4])
def test_the_longest_roberta_text_takes_every_position(tmp_path: Path, padding: int) -> None:
    directory = save_roberta(tmp_path, pad_token_id=padding, max_position_embeddings=64)
    longest = 64 - (padding + 1) - 2
    model = load_model(str(directory))
    assert model.max_length == spec_of(directory).max_length == longest
    text = "k" * longest
    assert len(model.tokenize([text])[0]) == longest
    np.testing.assert_allclose(embed(model, [text]), plain_means(directory, [text]), atol=1e-4)


def test_a_sentence_model_of_roberta_has_the_vectors_of_sentence_transformers(tmp_path: Path) -> None:
    inner, directory = save_roberta(tmp_path / "inner"), tmp_path / "whole"
    save_sentence_model(inner, directory, normalize=True)
    vectors = embed(load_model(str(directory)), TEXTS[:30])
    np.testing.assert_allclose(vectors, encode(directory, TEXTS[:30]), atol=1e-4)
