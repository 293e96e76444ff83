"""What stands around a transformer in a sentence-transformers directory, against sentence-transformers."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense
from sentence_transformers.sentence_transformer.modules import LayerNorm, Normalize, Pooling, Transformer
from tokenizers import processors
from transformers import LlamaConfig, LlamaModel

from gpu_tasks import AsyncInferenceRunner, load_model
from gpu_tasks.errors import ModelLoadError, UnsupportedModel
from gpu_tasks.inference.model import EmbeddingModel
from gpu_tasks.model_directory.reader import read_model
from gpu_tasks.models.loading import load
from queue_app.errors import UsageError
from queue_app.model.spec import DenseSpec, PromptSpec
from tests.support.model_directories import (
    MINILM,
    TINY,
    change_json,
    embed,
    plan_for,
    randomize,
    save_bert,
    save_byte_tokenizer,
    token_rows,
)

DIM = TINY["hidden_size"]
TEXTS = ["a protein kinase", "", "ATP-binding subunit of the ribosome, small", "x", "kinase " * 40]
LONG = "The mitochondrial chaperonin folds proteins in the matrix of the cell. " * 60
MODES = ["cls", "mean", "max", "lasttoken", "mean_sqrt_len_tokens", "weightedmean"]
PROMPT = "passage: of the cell, "


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that transformers runs, and that puts a token before the text but none behind it."""
    directory = tmp_path_factory.mktemp("causal")
    config = LlamaConfig(
        vocab_size=300, hidden_size=DIM, num_hidden_layers=2, num_attention_heads=4, intermediate_size=160,
        bos_token_id=0, eos_token_id=2, pad_token_id=1,
    )  # fmt: skip
    randomize(model := LlamaModel(config))
    model.save_pretrained(directory)
    save_byte_tokenizer(
        directory, processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    )
    return directory


def save(inner: Path, directory: Path, *behind: torch.nn.Module, pool: Any = "mean", **options: Any) -> Path:
    """As sentence-transformers saves it."""
    pooling = Pooling(DIM, pooling_mode=pool, **options)
    SentenceTransformer(modules=[Transformer(str(inner)), pooling, *behind], device="cpu").save(
        str(directory), create_model_card=False
    )
    return directory


def encode(directory: Path, texts: Sequence[str], **options: Any) -> np.ndarray:
    """By sentence-transformers, one text at a time."""
    model = SentenceTransformer(str(directory), device="cpu", **options)
    return np.concatenate([model.encode([text]) for text in texts])


def load_with(directory: Path, prompt: PromptSpec) -> EmbeddingModel:
    reading = read_model(directory)
    return load(replace(reading.spec, prompt=prompt), reading.tokenizer)


def dense(inputs: int, outputs: int, *, seed: int = 3, **options: Any) -> Dense:
    """Of random weights."""
    torch.manual_seed(seed)
    return Dense(inputs, outputs, **options)


def layer_norm(dim: int) -> LayerNorm:
    module = LayerNorm(dim)
    torch.nn.init.normal_(module.norm.weight)
    torch.nn.init.normal_(module.norm.bias)
    return module


# ---- pooling


@pytest.mark.parametrize("family", ["tiny", "causal"])
@pytest.mark.parametrize("pool", [*MODES, ["cls", "mean"], ["weightedmean", "max", "lasttoken"]], ids=str)
def test_every_pooling_is_that_of_sentence_transformers(
    request: pytest.FixtureRequest, tmp_path: Path, pool: Any, family: str
) -> None:
    directory = save(request.getfixturevalue(family), tmp_path, pool=pool)
    np.testing.assert_allclose(
        embed(load_model(str(directory)), TEXTS), encode(directory, TEXTS), rtol=1e-5, atol=2e-5
    )


@pytest.mark.parametrize(
    ("flags", "pool"),
    [
        ({"pooling_mode_cls_token": True}, "cls"),
        ({"pooling_mode_lasttoken": True}, "last"),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, "mean_sqrt_len"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, "cls+mean"),
        ({}, "mean"),
    ],
    ids=str,
)
def test_the_flags_of_older_directories_are_read(
    tiny: Path, tmp_path: Path, flags: dict[str, bool], pool: str
) -> None:
    directory = save(tiny, tmp_path)
    config = {"word_embedding_dimension": DIM, "pooling_mode_mean_tokens": False, **flags}
    (directory / "1_Pooling/config.json").write_text(json.dumps(config))
    model = load_model(str(directory))
    assert model.readout.pools == (pool,)
    np.testing.assert_allclose(embed(model, TEXTS), encode(directory, TEXTS), atol=1e-4)


def test_pools_that_the_caller_puts_side_by_side_are_those_of_each_alone(tiny: Path) -> None:
    pools = ("weighted_mean", "cls+mean", "mean_sqrt_len")
    together = embed(load_model(str(tiny), pool=",".join(pools)), TEXTS)
    alone = [embed(load_model(str(tiny), pool=pool), TEXTS) for pool in pools]
    np.testing.assert_array_equal(together, np.concatenate(alone, axis=1))


# ---- behind the pooling

HEADS: dict[str, tuple[Any, ...]] = {
    "dense": (dense(DIM, 24),),
    "dense without bias": (dense(DIM, 24, bias=False, activation_function=torch.nn.Identity()), Normalize()),
    "gelu, back again": (dense(DIM, 24, activation_function=torch.nn.GELU()), dense(24, DIM), Normalize()),
    "residual": (dense(DIM, DIM, use_residual=True), layer_norm(DIM), Normalize()),
    "residual of another width": (dense(DIM, 24, use_residual=True, activation_function=torch.nn.SiLU()),),
    "layer norm": (layer_norm(DIM),),
    "normalized before": (Normalize(), dense(DIM, 40)),
}


@pytest.mark.parametrize("head", HEADS)
def test_what_stands_behind_the_pooling_is_computed(tiny: Path, tmp_path: Path, head: str) -> None:
    directory = save(tiny, tmp_path, *HEADS[head])
    model, expected = load_model(str(directory)), encode(directory, TEXTS)
    assert model.dim == expected.shape[1]
    np.testing.assert_allclose(embed(model, TEXTS), expected, rtol=1e-5, atol=2e-5)


def test_dense_takes_what_two_pools_make_together(tiny: Path, tmp_path: Path) -> None:
    directory = save(tiny, tmp_path, dense(2 * DIM, 24), pool=["mean", "max"])
    np.testing.assert_allclose(
        embed(load_model(str(directory)), TEXTS), encode(directory, TEXTS), rtol=1e-5, atol=2e-5
    )
    with pytest.raises(UsageError, match=r"a dense module behind its pooling that takes 160 numbers, not 80"):
        load_model(str(directory), pool="mean")


@pytest.mark.parametrize("behind", [(), (Normalize(),), (dense(DIM, 24), Normalize())], ids=len)
def test_a_vector_is_cut_where_the_directory_says_so(tiny: Path, tmp_path: Path, behind: Any) -> None:
    """And is of unit length again where it was: sentence-transformers leaves that to whoever asks for it."""
    directory = save(tiny, tmp_path, *behind)
    change_json(directory / "config_sentence_transformers.json", truncate_dim=16)
    model, expected = load_model(str(directory)), encode(directory, TEXTS)
    assert model.dim == expected.shape[1] == 16
    if behind:
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(embed(model, TEXTS), expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_head_is_computed_in_float32_whatever_the_weights_are(
    tiny: Path, tmp_path: Path, dtype: str
) -> None:
    directory = save(tiny, tmp_path, dense(DIM, DIM, use_residual=True), Normalize())
    vectors = embed(load_model(str(directory), dtype=dtype), TEXTS)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert (vectors * encode(directory, TEXTS)).sum(axis=1).min() > 0.99


@pytest.mark.parametrize("name", ["linear.weight", "linear.bias"])
def test_a_head_whose_weights_do_not_fit_is_refused(tiny: Path, tmp_path: Path, name: str) -> None:
    directory = save(tiny, tmp_path, dense(DIM, 24))
    reading = read_model(directory)
    (spec,) = reading.spec.head
    assert isinstance(spec, DenseSpec)
    larger = replace(spec, outputs=25)
    with pytest.raises(
        ModelLoadError, match=r"2_Dense/model\.safetensors: lacks linear\.weight of the shape"
    ):
        load(replace(reading.spec, head=(larger,)), reading.tokenizer)
    tensors = load_file(directory / spec.file)
    del tensors[name]
    save_file(tensors, directory / spec.file)
    with pytest.raises(ModelLoadError, match=r"2_Dense/model\.safetensors"):
        load_model(str(directory))


@pytest.mark.parametrize("activation", ["PReLU", "no_such_thing", "Linear"])
def test_an_activation_that_does_not_come_by_itself_is_refused(
    tiny: Path, tmp_path: Path, activation: str
) -> None:
    reading = read_model(save(tiny, tmp_path, dense(DIM, 24)))
    (spec,) = reading.spec.head
    assert isinstance(spec, DenseSpec)
    with pytest.raises(UnsupportedModel, match=activation):
        load(replace(reading.spec, head=(replace(spec, activation=activation),)), reading.tokenizer)


# ---- long records


@pytest.mark.parametrize("pool", ["mean", "cls", "max", "last", "mean_sqrt_len", "weighted_mean"])
def test_the_head_is_applied_once_to_the_vector_of_all_windows(tiny: Path, tmp_path: Path, pool: str) -> None:
    directory = save(tiny, tmp_path, dense(DIM, 24), Normalize())
    inner = read_model(directory)
    bare = load(replace(inner.spec, head=()), inner.tokenizer, pools=(pool,))
    pooled = embed(bare, [LONG, "x"], window_overlap=60)
    linear = HEADS["dense"][0].linear
    weight, bias = (part.detach().numpy() for part in (linear.weight, linear.bias))
    expected = np.tanh(pooled @ weight.T + bias)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    vectors = embed(load_model(str(directory), pool=pool), [LONG, "x"], window_overlap=60)
    assert vectors.shape == (2, 24)
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_several_pools_of_a_long_record_pass_the_head_each(tiny: Path, tmp_path: Path) -> None:
    directory = save(tiny, tmp_path, dense(DIM, 24), Normalize())
    together = embed(load_model(str(directory), pool="mean,weighted_mean"), [LONG], window_overlap=60)
    alone = [
        embed(load_model(str(directory), pool=pool), [LONG], window_overlap=60)
        for pool in ("mean", "weighted_mean")
    ]
    np.testing.assert_allclose(together, np.concatenate(alone, axis=1), atol=1e-6)


# ---- prompts


@pytest.mark.parametrize("family", ["tiny", "causal"])
@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize("pool", MODES)
def test_a_prompt_is_put_before_the_text_and_pooled_as_the_directory_says(
    request: pytest.FixtureRequest, tmp_path: Path, pool: str, include: bool, family: str
) -> None:
    directory = save(request.getfixturevalue(family), tmp_path, pool=pool, include_prompt=include)
    model = load_with(directory, PromptSpec(PROMPT, pooled=include))
    texts = TEXTS if family == "tiny" else [text for text in TEXTS if text]
    expected = encode(directory, texts, prompts={"given": PROMPT}, default_prompt_name="given")
    np.testing.assert_allclose(embed(model, texts), expected, rtol=1e-5, atol=2e-5)


def test_a_prompt_of_minilm_gives_the_vectors_of_sentence_transformers() -> None:
    model = load_with(MINILM, PromptSpec(PROMPT))
    expected = encode(MINILM, TEXTS, prompts={"given": PROMPT}, default_prompt_name="given")
    np.testing.assert_allclose(embed(model, TEXTS), expected, atol=1e-6)


def test_every_token_of_the_text_has_a_vector_and_those_of_a_prompt_only_where_it_is_pooled(
    tiny: Path, tmp_path: Path
) -> None:
    reading, texts = read_model(save(tiny, tmp_path)), ["a kinase", "x"]
    plain = load(reading.spec, reading.tokenizer)
    for pooled, prompt in ((True, PROMPT), (False, "")):
        spec = replace(reading.spec, prompt=PromptSpec(PROMPT, pooled=pooled))
        rows = token_rows(load(spec, reading.tokenizer, pools=()), texts)
        expected = plain.tokenize([prompt + text for text in texts])
        assert [len(row) for row in rows] == [len(ids) for ids in expected]


@pytest.mark.parametrize("pooled", [True, False])
def test_a_prompt_counts_in_a_long_record_where_it_is_pooled_and_once(
    tiny: Path, tmp_path: Path, pooled: bool
) -> None:
    """The mean is that of what every token has, which leaves special tokens out."""
    reading = read_model(save(tiny, tmp_path))
    spec = replace(reading.spec, prompt=PromptSpec(PROMPT, pooled=pooled), pool_special=False)
    ragged = load(spec, reading.tokenizer, pools=())
    plan = plan_for(ragged, [LONG], window_overlap=60)
    assert plan.batch(0).of_windows
    rows = np.concatenate([result.embeddings for result in AsyncInferenceRunner(ragged).run(plan)])
    counted = ragged.tokenize([LONG])[0].size - (0 if pooled else ragged.left.num_prompt - 1)
    assert len(rows) == counted
    mean = embed(load(spec, reading.tokenizer), [LONG], window_overlap=60)[0]
    np.testing.assert_allclose(mean, rows.mean(axis=0), atol=1e-5)
