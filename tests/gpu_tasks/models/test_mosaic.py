"""DNABERT-2 against its published formulas: one sequence at a time, full matrices, plain softmax, float64.

No package has an implementation of it; its directory brings code of its own, which nothing here runs.
"""

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from gpu_tasks import load_model
from gpu_tasks.errors import ModelLoadError, UnsupportedModel
from gpu_tasks.models.mosaic import alibi_slopes
from tests.support.model_directories import (
    change_config,
    change_weights,
    cosines,
    embed,
    save_mosaic,
    spec_of,
)


def bases(length: int) -> str:
    return "".join(random.Random(length).choices("ACGT", k=length))


SEQUENCES = ["A", "ACGTNNNACGT", *(bases(length) for length in (2, 9, 30, 31, 32, 300, 301, 900))]
LONG = bases(4000)
PUBLISHED_SLOPES = {
    1: [2**-8],
    4: [2**-2, 2**-4, 2**-6, 2**-8],
    8: [2**-head for head in range(1, 9)],
    12: [*(2**-head for head in range(1, 9)), *(2**-half for half in (0.5, 1.5, 2.5, 3.5))],
}
"""The ALiBi paper's for 8 heads; for 12, every other one of 16 heads' follows those of 8."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_mosaic(tmp_path_factory.mktemp("dnabert2"))


# ---- the reference


def reference(directory: Path, sequence: str, most: int = 512) -> np.ndarray:
    """Hidden states of all tokens, [CLS] and [SEP] included."""
    config = json.loads((directory / "config.json").read_bytes())
    tensors = load_file(directory / "model.safetensors")
    weights = {name.removeprefix("bert."): tensor.astype(np.float64) for name, tensor in tensors.items()}
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.enable_truncation(most)
    ids = tokenizer.encode(sequence).ids
    words, types = (weights[f"embeddings.{kind}_embeddings.weight"] for kind in ("word", "token_type"))
    eps = config["layer_norm_eps"]
    x = norm(words[ids] + types[0], weights, "embeddings.LayerNorm", eps)
    for index in range(config["num_hidden_layers"]):
        name = f"encoder.layer.{index}"
        attended = attend(x, weights, f"{name}.attention.self.Wqkv", config["num_attention_heads"])
        projected = linear(attended, weights, f"{name}.attention.output.dense")
        x = norm(x + projected, weights, f"{name}.attention.output.LayerNorm", eps)
        x = norm(x + feed_forward(x, weights, f"{name}.mlp"), weights, f"{name}.mlp.layernorm", eps)
    return x


def attend(x: np.ndarray, weights: dict[str, np.ndarray], name: str, num_heads: int) -> np.ndarray:
    query, key, value = np.split(linear(x, weights, name), 3, axis=1)
    head_dim = x.shape[1] // num_heads
    attended = np.empty_like(x)
    for head, slope in enumerate(PUBLISHED_SLOPES[num_heads]):
        columns = slice(head * head_dim, (head + 1) * head_dim)
        for place in range(len(x)):
            distances = np.abs(np.arange(len(x)) - place)
            scores = key[:, columns] @ query[place, columns] / math.sqrt(head_dim) - slope * distances
            likely = np.exp(scores - scores.max())
            attended[place, columns] = likely / likely.sum() @ value[:, columns]
    return attended


def feed_forward(x: np.ndarray, weights: dict[str, np.ndarray], name: str) -> np.ndarray:
    gate, inner = np.split(x @ weights[f"{name}.gated_layers.weight"].T, 2, axis=1)
    gelu = gate * 0.5 * (1 + np.vectorize(math.erf)(gate / math.sqrt(2)))
    return linear(gelu * inner, weights, f"{name}.wo")


def linear(x: np.ndarray, weights: dict[str, np.ndarray], name: str) -> np.ndarray:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def norm(x: np.ndarray, weights: dict[str, np.ndarray], name: str, eps: float) -> np.ndarray:
    centred = x - x.mean(axis=1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + eps)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def means(directory: Path, sequences: list[str]) -> np.ndarray:
    """As the README of DNABERT-2 takes them: over all tokens, special ones included."""
    return np.array([reference(directory, sequence).mean(axis=0) for sequence in sequences])


# ---- the same vectors


def test_sequences_have_the_vectors_of_the_published_formulas(tiny: Path) -> None:
    vectors, expected = embed(load_model(str(tiny)), SEQUENCES), means(tiny, SEQUENCES)
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_the_longest_segment_has_the_vector_of_the_published_formulas(tiny: Path) -> None:
    model = load_model(str(tiny))
    assert len(model.tokenize([LONG])[0]) > model.max_length == 510
    np.testing.assert_allclose(embed(model, [LONG], long="truncate"), means(tiny, [LONG]), atol=1e-5)


@pytest.mark.parametrize("num_heads", [4, 8])
def test_a_power_of_two_of_heads_has_the_vectors_of_the_published_formulas(
    tmp_path: Path, num_heads: int
) -> None:
    directory = save_mosaic(tmp_path, num_attention_heads=num_heads)
    vectors = embed(load_model(str(directory)), SEQUENCES[:6])
    np.testing.assert_allclose(vectors, means(directory, SEQUENCES[:6]), atol=1e-5)


@pytest.mark.parametrize("num_heads", PUBLISHED_SLOPES)
def test_the_slopes_are_the_published_ones(num_heads: int) -> None:
    assert alibi_slopes(num_heads) == pytest.approx(PUBLISHED_SLOPES[num_heads], rel=1e-12)


def test_a_sequence_alone_and_in_a_mixed_batch_has_the_same_vector(tiny: Path) -> None:
    model = load_model(str(tiny))
    alone = np.concatenate([embed(model, [sequence]) for sequence in SEQUENCES])
    np.testing.assert_allclose(embed(model, SEQUENCES), alone, atol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_stays_close(tiny: Path, dtype: str) -> None:
    vectors = embed(load_model(str(tiny), dtype=dtype), SEQUENCES[:7])
    assert cosines(vectors, means(tiny, SEQUENCES[:7])).min() > 0.99


@pytest.mark.parametrize("changed", [{"layer_norm_eps": 0.1}, {"intermediate_size": 64}], ids=str)
def test_the_configuration_is_heeded(tmp_path: Path, changed: dict[str, Any]) -> None:
    directory = save_mosaic(tmp_path, **changed)
    vectors = embed(load_model(str(directory)), SEQUENCES[:6])
    np.testing.assert_allclose(vectors, means(directory, SEQUENCES[:6]), atol=1e-5)


# ---- the directory


def test_the_queue_knows_that_it_is_for_dna_and_how_long_a_segment_may_be(tiny: Path) -> None:
    model, card = load_model(str(tiny)), spec_of(tiny)
    assert (card.family, card.alphabet, card.pool) == ("mosaic", "dna", "mean")
    assert (card.dim, card.max_length) == (model.dim, model.max_length) == (96, 510)


def test_a_longer_limit_is_set_in_the_directory_and_still_has_the_right_vector(tmp_path: Path) -> None:
    directory = save_mosaic(tmp_path, alibi_starting_size=2000)
    model = load_model(str(directory))
    assert model.max_length == spec_of(directory).max_length == 1998
    assert 510 < len(model.tokenize([LONG])[0]) < 1998
    expected = reference(directory, LONG, most=2000).mean(axis=0)
    np.testing.assert_allclose(embed(model, [LONG])[0], expected, atol=1e-5)


@pytest.mark.parametrize(
    "changed",
    [
        {"alibi_starting_size": None},
        {"alibi_starting_size": None, "auto_map": {"AutoModel": "a/DNABERT-2--bert_layers.BertModel"}},
        {"auto_map": None},
    ],
    ids=str,
)
def test_every_way_to_say_that_it_is_no_bert_is_understood(
    tiny: Path, tmp_path: Path, changed: dict[str, object]
) -> None:
    """DNABERT-S leaves the encoder's name away, and configs saved anew name the repository of the code."""
    directory = change_config(save_mosaic(tmp_path, prefix=""), **changed)
    assert spec_of(directory).family == "mosaic"
    assert embed(load_model(str(directory)), SEQUENCES[:4]).tobytes() == (
        embed(load_model(str(tiny)), SEQUENCES[:4]).tobytes()
    )


def test_a_tokenizer_of_words_makes_a_model_of_texts(tmp_path: Path) -> None:
    directory = save_mosaic(tmp_path)
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    fields = json.loads(tokenizer.to_str())
    vocabulary = fields["model"]["vocab"]
    # No merge is lost that another word needs.
    longest = max((word for word in vocabulary if not word.startswith("[")), key=len)
    fields["model"]["merges"] = [pair for pair in fields["model"]["merges"] if "".join(pair) != longest]
    vocabulary["protein"] = vocabulary.pop(longest)
    (directory / "tokenizer.json").write_text(json.dumps(fields))
    assert spec_of(directory).alphabet == "text"


def test_code_of_its_own_with_other_weights_is_refused(tmp_path: Path) -> None:
    change_weights(
        save_mosaic(tmp_path), lambda tensors: tensors.pop("bert.encoder.layer.1.mlp.gated_layers.weight")
    )
    with pytest.raises(ModelLoadError, match=r"lack bert\.encoder\.layer\.1\.mlp\.gated_layers\.weight"):
        load_model(str(tmp_path))


def test_a_variant_that_would_get_wrong_vectors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="hidden_act"):
        load_model(str(save_mosaic(tmp_path, hidden_act="relu")))


def test_the_published_pickles_are_refused_with_the_way_out(tmp_path: Path) -> None:
    directory = save_mosaic(tmp_path)
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    with pytest.raises(ModelLoadError, match=r"only pickled weights \(pytorch_model.bin\).*safetensors"):
        spec_of(directory)
