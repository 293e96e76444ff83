"""MPNet against transformers and sentence-transformers, with random weights."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from transformers import MPNetModel, MPNetTokenizer
from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

from gpu_tasks import load_model
from gpu_tasks.errors import ModelLoadError
from gpu_tasks.models.bert import Bert
from gpu_tasks.models.t5.buckets import bucket
from tests.support.model_directories import (
    Tensors,
    change_config,
    change_weights,
    cosines,
    embed,
    save_mpnet,
    spec_of,
)

WORDS = ["protein", "Kinase", "of", "the", "ATP-binding", "subunit,", "β-1,4", "(EC", "2.7.11.1)", "蛋白质"]


def words(count: int) -> str:
    return " ".join(random.Random(count).choices(WORDS, k=count))


TEXTS = ["", *(words(count) for count in (1, 2, 3, 3, 9, 20, 41, 42, 120)), "a <pad> in the <pad><pad> text"]
LONG = words(1000)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_mpnet(tmp_path_factory.mktemp("mpnet"))


def plain_means(directory: Path, texts: list[str]) -> np.ndarray:
    """By transformers, one by one, over the tokens of the text."""
    model = MPNetModel.from_pretrained(directory, add_pooling_layer=False).eval()
    tokenizer = MPNetTokenizer.from_pretrained(directory)
    with torch.inference_mode():
        hidden = [
            model(**tokenizer(text, return_tensors="pt", truncation=True)).last_hidden_state[0]
            for text in texts
        ]
    return np.array([tokens[1:-1].mean(dim=0).numpy() for tokens in hidden])


def save_sentence_model(inner: Path, directory: Path) -> Path:
    modules = [Transformer(str(inner)), Pooling(80, pooling_mode="mean"), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save(str(directory), create_model_card=False)
    return directory


def test_texts_have_the_vectors_of_transformers(tiny: Path) -> None:
    vectors, expected = embed(load_model(str(tiny)), TEXTS[1:]), plain_means(tiny, TEXTS[1:])
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_the_longest_text_takes_every_position(tiny: Path) -> None:
    """And distances far beyond 128, which share a bucket."""
    model = load_model(str(tiny))
    assert len(model.tokenize([LONG])[0]) > model.max_length
    np.testing.assert_allclose(embed(model, [LONG], long="truncate"), plain_means(tiny, [LONG]), atol=1e-5)


def test_every_distance_falls_into_the_bucket_that_transformers_gives_it() -> None:
    offsets = torch.arange(-2000, 2001)
    expected = MPNetEncoder.relative_position_bucket(offsets)
    assert [bucket(offset, 32, 128) for offset in offsets.tolist()] == expected.tolist()


def test_a_sentence_model_has_the_vectors_of_sentence_transformers(tiny: Path, tmp_path: Path) -> None:
    directory = save_sentence_model(tiny, tmp_path)
    expected = SentenceTransformer(str(directory), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(embed(load_model(str(directory)), TEXTS), expected, atol=1e-5)


def test_texts_have_the_tokens_that_transformers_gives_them(tiny: Path) -> None:
    model, tokenizer = load_model(str(tiny)), MPNetTokenizer.from_pretrained(tiny)
    for text, payload in zip(TEXTS, model.tokenize(TEXTS), strict=True):
        assert [*model.prefix, *payload.tolist(), *model.suffix] == tokenizer(text)["input_ids"], text


def test_the_queue_knows_the_limits_of_the_model(tiny: Path) -> None:
    model, card = load_model(str(tiny)), spec_of(tiny)
    assert (card.family, card.alphabet, card.pool) == ("mpnet", "text", "mean")
    assert (model.max_length, model.dim) == (card.max_length, card.dim) == (510, 80)


def test_a_text_alone_and_in_a_mixed_batch_has_the_same_vector(tiny: Path) -> None:
    model = load_model(str(tiny))
    alone = np.concatenate([embed(model, [text]) for text in TEXTS[1:]])
    np.testing.assert_allclose(embed(model, TEXTS[1:]), alone, atol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_stays_close(tiny: Path, dtype: str) -> None:
    texts = TEXTS[1:8]
    assert cosines(embed(load_model(str(tiny), dtype=dtype), texts), plain_means(tiny, texts)).min() > 0.99


def test_a_masked_language_model_has_the_vectors_of_its_encoder(tiny: Path, tmp_path: Path) -> None:
    def put_a_head_on(tensors: Tensors) -> None:
        for name in list(tensors):
            tensors[f"mpnet.{name}"] = tensors.pop(name)

    directory = change_weights(save_mpnet(tmp_path), put_a_head_on)
    assert embed(load_model(str(directory)), TEXTS[1:5]).tobytes() == (
        embed(load_model(str(tiny)), TEXTS[1:5]).tobytes()
    )


@pytest.mark.parametrize("changed", [{"layer_norm_eps": 0.1}, {"num_attention_heads": 8}], ids=str)
def test_the_configuration_is_heeded(tmp_path: Path, changed: dict[str, Any]) -> None:
    directory = save_mpnet(tmp_path, **changed)
    vectors = embed(load_model(str(directory)), TEXTS[1:6])
    np.testing.assert_allclose(vectors, plain_means(directory, TEXTS[1:6]), atol=1e-5)


def test_a_variant_is_left_to_transformers(tmp_path: Path) -> None:
    directory = change_config(save_mpnet(tmp_path), hidden_act="relu")
    model = load_model(str(directory))
    assert not isinstance(model.encoder, Bert)  # type: ignore[attr-defined]
    np.testing.assert_allclose(embed(model, TEXTS[1:6]), plain_means(directory, TEXTS[1:6]), atol=1e-5)


def test_weights_without_the_bias_are_refused(tmp_path: Path) -> None:
    change_weights(
        save_mpnet(tmp_path), lambda tensors: tensors.pop("encoder.relative_attention_bias.weight")
    )
    with pytest.raises(ModelLoadError, match=r"lack encoder\.relative_attention_bias\.weight"):
        load_model(str(tmp_path))
