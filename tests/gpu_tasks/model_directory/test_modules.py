"""What a sentence-transformers directory adds to its transformer, and every refusal with file and key."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import BartConfig, BartModel

from gpu_tasks.errors import ModelLoadError, UnsupportedModel
from gpu_tasks.model_directory.reader import read_model
from queue_app.model.spec import (
    DenseSpec,
    LayerNormSpec,
    ModelSpec,
    NormalizeSpec,
    PromptSpec,
    TruncateSpec,
)
from tests.support.model_directories import change_json
from tests.support.small_models import DIM, TYPES, save_dense, save_sentences, save_small_bert, write_json

POOLING = "1_Pooling/config.json"
SETTINGS = "config_sentence_transformers.json"
LIMITS = "sentence_bert_config.json"


def read(directory: Path) -> ModelSpec:
    return read_model(directory).spec


def refused(directory: Path, *said: str) -> None:
    """The directory is refused, naming each of these."""
    with pytest.raises((ModelLoadError, UnsupportedModel)) as caught:
        read(directory)
    for each in (str(directory), *said):
        assert each in str(caught.value)


# ---- pooling


@pytest.mark.parametrize(
    ("config", "pool"),
    [
        ({}, "mean"),
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode": "max"}, "max"),
        ({"pooling_mode": "lasttoken"}, "last"),
        ({"pooling_mode": "mean_sqrt_len_tokens"}, "mean_sqrt_len"),
        ({"pooling_mode": "weightedmean"}, "weighted_mean"),
        ({"pooling_mode": ["mean", "cls"]}, "mean+cls"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, "cls+mean"),
        ({"pooling_mode_weightedmean_tokens": True}, "weighted_mean"),
        ({"pooling_mode_lasttoken": True, "pooling_mode_mean_sqrt_len_tokens": True}, "mean_sqrt_len+last"),
    ],
    ids=str,
)
def test_every_pooling_of_sentence_transformers_is_known(
    tmp_path: Path, config: dict[str, Any], pool: str
) -> None:
    spec = read(save_sentences(tmp_path / "m", pooling=config))
    assert (spec.pool, spec.dim, spec.pool_special) == (pool, DIM * (pool.count("+") + 1), True)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"pooling_mode": "median"}, "pooling_mode ['median']: only cls, mean, max, lasttoken"),
        ({"pooling_mode": []}, "pooling_mode []"),
        ({"pooling_mode": 7}, "pooling_mode [7]"),
        ({"pooling_mode_mean_tokens": "yes"}, "pooling_mode_mean_tokens='yes' is not implemented"),
        ({"pooling_mode_of_tomorrow": False}, "pooling_mode_of_tomorrow: not understood"),
    ],
    ids=str,
)
def test_a_pooling_that_is_unknown_is_refused_and_not_guessed(
    tmp_path: Path, config: dict[str, Any], said: str
) -> None:
    refused(save_sentences(tmp_path / "m", pooling=config), POOLING, said)


def test_a_pooling_without_its_width_is_refused(tmp_path: Path) -> None:
    write_json(save_sentences(tmp_path / "m") / POOLING, {"pooling_mode": "cls"})
    refused(tmp_path / "m", POOLING, "lacks embedding_dimension")


# ---- what stands behind it


def test_modules_behind_the_pooling_are_told_in_their_order(tmp_path: Path) -> None:
    spec = read(save_sentences(tmp_path / "m", "Dropout", "LayerNorm", "Dense", "Normalize"))
    assert spec.head == (
        LayerNormSpec("layer_norm", DIM, "3_LayerNorm/model.safetensors"),
        DenseSpec("dense", DIM, 5, True, "Tanh", False, "4_Dense/model.safetensors"),
        NormalizeSpec("normalize"),
    )
    assert (spec.dim, spec.vector_dim("none"), spec.normalize) == (5, DIM, True)
    assert {"3_LayerNorm/config.json", "4_Dense/model.safetensors"} < {file.name for file in spec.files}


@pytest.mark.parametrize(
    ("fields", "known"),
    [
        ({"activation_function": "torch.nn.modules.linear.Identity"}, ("Identity", False, True)),
        ({"activation_function": "torch.nn.GELU"}, ("GELU", False, True)),
        ({"use_residual": True, "out_features": DIM}, ("Tanh", True, True)),
    ],
    ids=str,
)
def test_a_dense_module_is_computed_as_its_config_says(
    tmp_path: Path, fields: dict[str, Any], known: tuple[str, bool, bool]
) -> None:
    path = save_sentences(tmp_path / "m", "Dense")
    save_dense(path / "2_Dense", outputs=fields.get("out_features", 5), **fields)
    (dense,) = read(path).head
    assert isinstance(dense, DenseSpec)
    assert (dense.activation, dense.residual, dense.biased) == known


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"activation_function": "my.Activation"}, "activation_function 'my.Activation': only torch.nn's"),
        ({"activation_function": "torch.nn.Softmax"}, "activation_function 'torch.nn.Softmax'"),
        ({"in_features": 0}, "in_features 0: not a number of dimensions"),
        ({"out_features": None}, "out_features None"),
        ({"gate": True}, "gate: not understood, and it may change vectors"),
        (
            {"module_input_name": "token_embeddings"},
            "module_input_name='token_embeddings' is not implemented",
        ),
    ],
    ids=str,
)
def test_a_dense_module_that_is_not_understood_is_refused(
    tmp_path: Path, fields: dict[str, Any], said: str
) -> None:
    path = save_sentences(tmp_path / "m", "Dense") / "2_Dense" / "config.json"
    write_json(path, {"in_features": DIM, "out_features": 5, "bias": True, **fields})
    refused(tmp_path / "m", "2_Dense/config.json", said)


def test_weights_of_a_dense_module_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    folder = save_sentences(tmp_path / "m", "Dense") / "2_Dense"
    save_file({"linear.weight": torch.ones(5, DIM)}, folder / "model.safetensors")
    refused(tmp_path / "m", "2_Dense/model.safetensors: holds", "'linear.bias': (5,)")


def test_pickled_weights_of_a_module_are_refused_with_the_way_out(tmp_path: Path) -> None:
    folder = save_sentences(tmp_path / "m", "Dense") / "2_Dense"
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refused(tmp_path / "m", "only pickled weights (pytorch_model.bin)", f"holdfast convert {folder}")


# ---- modules.json


def modules(*kinds: str, path: str = "", **more: object) -> list[dict[str, object]]:
    named = [TYPES + kind if "." not in kind else kind for kind in kinds]
    return [
        {"name": str(place), "type": kind, "path": path if place else "", **more}
        for place, kind in enumerate(named)
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "not a list of modules"),
        ([7], "not a list of modules"),
        ([{"type": TYPES + "Transformer"}], "a module without name, path or type"),
        (modules("Transformer", "Pooling", path="../elsewhere"), "'../elsewhere' is outside of the model"),
        (modules("Transformer", "Pooling", path="/etc"), "'/etc' is outside of the model directory"),
        (modules("Transformer", "Pooling", path="a\\b"), "is outside of the model directory"),
        (modules("Transformer", "my_pooling.Mine"), "'my_pooling.Mine': code of its own"),
        (modules("Transformer", "WordWeights"), "WordWeights': a module that is not implemented"),
        (modules("StaticEmbedding"), "StaticEmbedding': a module that is not implemented"),
        (modules("Router"), "Router': a module that is not implemented"),
        (modules("Transformer"), "modules Transformer; one Transformer, one Pooling"),
        ([], "modules none; one Transformer, one Pooling"),
        (modules("Transformer", "Normalize", "Pooling"), "one Transformer, one Pooling"),
        (modules("Transformer", "Pooling", "Pooling"), "one Transformer, one Pooling"),
        (modules("Transformer", "Pooling", kwargs=["task"]), "kwargs=['task'] is not implemented"),
        (modules("Transformer", "Pooling", weight=2), "weight: not understood"),
        (modules("Transformer", "Pooling", name="m"), "two modules of one name"),
        (modules("Transformer", name="../.."), "has a dot in it"),
        (modules("Transformer", "Pooling", path="x" * 5000), "has 5,000 letters"),
    ],
    ids=str,
)
def test_modules_that_are_not_understood_are_refused(tmp_path: Path, content: object, said: str) -> None:
    write_json(save_sentences(tmp_path / "m") / "modules.json", content)
    refused(tmp_path / "m", "modules.json", said)


def test_a_transformer_may_lie_in_a_folder_of_its_own(tmp_path: Path) -> None:
    spec = read(save_sentences(tmp_path / "m", folder="0_Transformer"))
    assert spec.encoder.folder == "0_Transformer"
    assert spec.encoder.weights == ("0_Transformer/model.safetensors",)


@pytest.mark.parametrize(
    "kind",
    [
        "sentence_transformers.base.modules.transformer.Transformer",
        "sentence_transformers.models.Transformer",
        "sentence_transformers.base.modules.Transformer",
    ],
)
def test_a_module_is_known_under_the_name_of_every_release(tmp_path: Path, kind: str) -> None:
    listed = [
        {"name": "0", "type": kind, "path": ""},
        {"name": "1", "type": TYPES + "Pooling", "path": "1_Pooling"},
    ]
    write_json(save_sentences(tmp_path / "m") / "modules.json", listed)
    assert read(tmp_path / "m").pool == "mean"


def test_a_model_with_a_decoder_is_refused_where_its_decoder_would_be_pooled(tmp_path: Path) -> None:
    path = save_sentences(tmp_path / "m")
    layers = {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    BartModel(BartConfig(vocab_size=16, d_model=DIM, **layers, **heads)).save_pretrained(path)
    refused(path, "config.json: model_type 'bart' has a decoder")
    for name in ("modules.json", SETTINGS, LIMITS):
        (path / name).unlink()
    assert read(path).encoder.model_type == "bart"


# ---- settings


def test_prompts_and_the_one_that_is_always_put_in_front(tmp_path: Path) -> None:
    prompts = {"query": "query: ", "none": "", "gone": None}
    spec = read(save_sentences(tmp_path / "m", settings={"prompts": prompts, "default_prompt_name": "query"}))
    assert spec.prompts == (("query", "query: "), ("none", ""))
    assert spec.prompt == PromptSpec("query: ", "query", pooled=True)
    change_json(tmp_path / "m" / SETTINGS, default_prompt_name="none")
    assert read(tmp_path / "m").prompt is None


def test_a_prompt_is_left_out_of_the_pooling_where_pooling_says_so(tmp_path: Path) -> None:
    settings = {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
    spec = read(save_sentences(tmp_path / "m", settings=settings, pooling={"include_prompt": False}))
    assert spec.prompt == PromptSpec("query: ", "query", pooled=False)
    assert spec.prompt_pooled is False


@pytest.mark.parametrize(
    ("behind", "head"),
    [((), ["truncate"]), (("Normalize",), ["normalize", "truncate", "normalize"])],
)
def test_truncate_dim_cuts_behind_everything_and_keeps_unit_vectors_so(
    tmp_path: Path, behind: tuple[str, ...], head: list[str]
) -> None:
    spec = read(save_sentences(tmp_path / "m", *behind, settings={"truncate_dim": 3}))
    assert [module.kind for module in spec.head] == head
    assert TruncateSpec("truncate", 3) in spec.head
    assert spec.dim == 3


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"model_type": "CrossEncoder"}, "model_type 'CrossEncoder' makes no vectors of single texts"),
        ({"default_prompt_name": "query"}, "default_prompt_name 'query' is none of prompts"),
        ({"prompts": ["query: "]}, "prompts: not a text for each name"),
        ({"prompts": {"query": 7}}, "prompts: not a text for each name"),
        ({"truncate_dim": 0}, "truncate_dim 0: not a number of dimensions"),
        ({"truncate_dim": True}, "truncate_dim True: not a number of dimensions"),
        ({"matryoshka": [3]}, "matryoshka: not understood, and it may change vectors"),
    ],
    ids=str,
)
def test_settings_that_are_not_understood_are_refused(
    tmp_path: Path, settings: Mapping[str, Any], said: str
) -> None:
    refused(save_sentences(tmp_path / "m", settings=settings), SETTINGS, said)


@pytest.mark.parametrize(("stated", "longest"), [(20, 18), (None, 38), (100, 38)])
def test_a_sentence_transformer_keeps_its_own_limit_as_far_as_its_positions_go(
    tmp_path: Path, stated: int | None, longest: int
) -> None:
    assert read(save_sentences(tmp_path / "m", limits={"max_seq_length": stated})).max_length == longest


def test_a_text_is_lowered_where_the_directory_says_so(tmp_path: Path) -> None:
    assert read(save_sentences(tmp_path / "m", limits={"do_lower_case": True})).tokens.lower_case


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"max_seq_length": 0}, "max_seq_length 0: not a number of tokens"),
        ({"max_seq_length": "long"}, "max_seq_length 'long'"),
        ({"do_lower_case": "yes"}, "do_lower_case='yes' is not implemented"),
        ({"model_args": {"trust_remote_code": True}}, "model_args={'trust_remote_code': True}"),
        ({"transformer_task": "fill-mask"}, "transformer_task='fill-mask' is not implemented"),
        ({"chunking": 3}, "chunking: not understood, and it may change vectors"),
    ],
    ids=str,
)
def test_limits_that_are_not_understood_are_refused(
    tmp_path: Path, limits: Mapping[str, Any], said: str
) -> None:
    refused(save_sentences(tmp_path / "m", limits=limits), LIMITS, said)


@pytest.mark.parametrize(
    "spoil",
    [lambda path: path.write_text("{"), lambda path: path.write_text("7"), lambda path: path.unlink()],
)
def test_a_file_of_a_module_that_is_unreadable_is_refused(
    tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    path = save_sentences(tmp_path / "m")
    spoil(path / POOLING)
    refused(path, POOLING)


def test_a_plain_directory_is_pooled_by_the_mean_without_special_tokens(tmp_path: Path) -> None:
    spec = read(save_small_bert(tmp_path / "m"))
    assert (spec.pool, spec.pool_special, spec.head, spec.prompt) == ("mean", False, (), None)
