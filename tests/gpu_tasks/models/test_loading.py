"""Loading a model: what is refused, and how it is named; and what importing the package brings along."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import gpu_tasks
from gpu_tasks import load_model
from gpu_tasks.errors import DeviceUnavailable, InferenceError, ModelLoadError, UnsupportedModel
from tests.support.model_directories import (
    MINILM,
    TINY,
    Tensors,
    change_config,
    change_weights,
    embed,
    save_bert,
    save_byte_tokenizer,
    save_esm2,
    save_esm2_in_parts,
)


@pytest.fixture
def esm2(tmp_path: Path) -> Path:
    return save_esm2(tmp_path / "esm2")


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return save_bert(tmp_path / "bert")


def loaded_after(statement: str) -> set[str]:
    program = f"{statement}; import sys; print(*sys.modules)"
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    return set(printed.split())


# ---- the package


def test_importing_the_package_brings_in_neither_torch_nor_numpy() -> None:
    assert not {"torch", "numpy", "tokenizers", "safetensors"} & loaded_after("import gpu_tasks")


def test_runner_and_mock_come_without_torch() -> None:
    statement = (
        "from gpu_tasks import AsyncInferenceRunner, load_model; AsyncInferenceRunner(load_model('mock:8'))"
    )
    assert not {"torch", "tokenizers", "safetensors"} & loaded_after(statement)


def test_the_package_offers_what_it_lists_and_nothing_else() -> None:
    assert [getattr(gpu_tasks, name).__name__ for name in gpu_tasks.__all__] == gpu_tasks.__all__
    with pytest.raises(AttributeError, match="no attribute 'load_modle'"):
        gpu_tasks.load_modle  # noqa: B018


# ---- arguments


@pytest.mark.parametrize(
    ("option", "message"),
    [({"dtype": "float64"}, "dtype='float64'"), ({"pool": "sum"}, "pool='sum'")],
    ids=str,
)
@pytest.mark.parametrize("ref", ["mock:8", str(MINILM)])
def test_an_unknown_option_is_refused_with_the_known_ones(
    ref: str, option: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=f"{message}: (not one|some) of .*(float32|mean), "):
        load_model(ref, **option)  # type: ignore[arg-type]


@pytest.mark.parametrize("ref", ["mok:8", "facebook/esm2_t6_8M_UR50D", "/nowhere", ""])
def test_a_reference_to_nothing_is_refused_by_name(ref: str) -> None:
    with pytest.raises(ModelLoadError, match=f"^{ref or '.'}"):
        load_model(ref)


def test_a_file_is_no_model_directory(esm2: Path) -> None:
    with pytest.raises(ModelLoadError, match="not a model directory"):
        load_model(str(esm2 / "model.safetensors"))


def test_a_device_that_is_not_there_is_refused(esm2: Path) -> None:
    with pytest.raises(DeviceUnavailable, match="device cuda:99"):
        load_model(str(esm2), device="cuda:99")


@pytest.mark.parametrize("pool", ["mean", "cls", "max", "last"])
def test_the_pool_of_the_caller_replaces_that_of_the_directory(pool: str) -> None:
    assert load_model(str(MINILM), pool=pool).readout.pools == (pool,)


def test_all_refusals_of_a_model_are_errors_of_inference() -> None:
    assert issubclass(UnsupportedModel, ModelLoadError)
    assert issubclass(ModelLoadError, InferenceError)


# ---- directories


def assert_refused(directory: Path, message: str, error: type[Exception] = ModelLoadError) -> None:
    with pytest.raises(error, match=message):
        load_model(str(directory))


def test_a_directory_without_config_is_refused(esm2: Path) -> None:
    (esm2 / "config.json").unlink()
    assert_refused(esm2, r"no config\.json")


@pytest.mark.parametrize(("content", "message"), [("{", "not readable as JSON"), ("[]", "not a JSON object")])
def test_a_senseless_config_is_refused(esm2: Path, content: str, message: str) -> None:
    (esm2 / "config.json").write_text(content)
    assert_refused(esm2, rf"config\.json: {message}")


def test_a_config_without_a_family_is_refused(esm2: Path) -> None:
    change_config(esm2, model_type=None)
    assert_refused(esm2, r"config\.json: names no model_type", UnsupportedModel)


def test_a_family_that_transformers_does_not_know_either_is_refused(esm2: Path) -> None:
    save_byte_tokenizer(change_config(esm2, model_type="no_such_family"), None)
    assert_refused(esm2, "no_such_family")


def test_a_directory_without_weights_is_refused(esm2: Path) -> None:
    (esm2 / "model.safetensors").unlink()
    assert_refused(esm2, r"no model\.safetensors in it")


def test_pickled_weights_are_never_read(esm2: Path) -> None:
    (esm2 / "model.safetensors").rename(esm2 / "pytorch_model.bin")
    assert_refused(esm2, r"only pickled weights \(pytorch_model\.bin\), which can run any code")


def test_a_cut_off_weight_file_is_refused_by_name(esm2: Path) -> None:
    path = esm2 / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert_refused(esm2, r"model\.safetensors: damaged safetensors file")


def test_a_missing_part_of_the_weights_is_named(tmp_path: Path) -> None:
    directory = save_esm2_in_parts(tmp_path, max_shard_size="100KB")
    sorted(directory.glob("*.safetensors"))[1].unlink()
    assert_refused(directory, r"model-00002-of-\d+\.safetensors. is no file beside it")


def test_a_missing_tokenizer_is_named(bert: Path) -> None:
    (bert / "tokenizer.json").unlink()
    assert_refused(bert, "no tokenizer in it")


def test_a_senseless_tokenizer_is_refused(bert: Path) -> None:
    (bert / "tokenizer.json").write_text("{}")
    assert_refused(bert, "transformers makes no tokenizer of it")


@pytest.mark.parametrize("content", ["{", "{}", '[{"type": "Transformer"}]', "3"])
def test_a_senseless_list_of_modules_is_refused(bert: Path, content: str) -> None:
    (bert / "modules.json").write_text(content)
    assert_refused(bert, r"modules")


# ---- weights

LAYER = "encoder.layer.1"
OF_A_LAYER = [
    *(f"attention.self.{part}" for part in ("query", "key", "value")),
    *("attention.output.dense", "intermediate.dense", "output.dense"),
]
OF_ESM2 = [
    "embeddings.word_embeddings.weight",
    *(f"encoder.emb_layer_norm_after.{part}" for part in ("weight", "bias")),
    *(f"{LAYER}.{name}.{part}" for name in OF_A_LAYER for part in ("weight", "bias")),
    *(
        f"{LAYER}.{name}.{part}"
        for name in ("LayerNorm", "attention.LayerNorm")
        for part in ("weight", "bias")
    ),
]
OF_BERT = [
    *(f"embeddings.{kind}_embeddings.weight" for kind in ("word", "position", "token_type")),
    *(f"embeddings.LayerNorm.{part}" for part in ("weight", "bias")),
    *(f"{LAYER}.{name}.{part}" for name in OF_A_LAYER for part in ("weight", "bias")),
    *(f"{LAYER}.{kind}output.LayerNorm.bias" for kind in ("", "attention.")),
]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("sound")
    return {"esm2": save_esm2(directory / "esm2"), "bert": save_bert(directory / "bert")}


@pytest.fixture
def copied(sound: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    def copy(family: str) -> Path:
        for path in sound[family].iterdir():
            (tmp_path / path.name).write_bytes(path.read_bytes())
        return tmp_path

    return copy


EVERY_WEIGHT = [*(("esm2", name) for name in OF_ESM2), *(("bert", name) for name in OF_BERT)]


@pytest.mark.parametrize(("family", "name"), EVERY_WEIGHT)
def test_a_missing_weight_is_named(copied: Callable[[str], Path], family: str, name: str) -> None:
    directory = change_weights(copied(family), lambda tensors: tensors.__delitem__(name))
    assert_refused(directory, f"lack {name}$")


@pytest.mark.parametrize(("family", "name"), EVERY_WEIGHT)
def test_a_misshapen_weight_is_named_with_both_shapes(
    copied: Callable[[str], Path], family: str, name: str
) -> None:
    """One number long, it would be broadcast over all others in silence."""
    shape: list[int] = []

    def shrink(tensors: Tensors) -> None:
        shape.extend(tensors[name].shape)
        tensors[name] = tensors[name][:1].clone()

    directory = change_weights(copied(family), shrink)
    assert_refused(
        directory, rf"{name} has the shape \[1.*; by config.json it is \[{', '.join(map(str, shape))}\]"
    )


def test_weights_of_a_larger_model_do_not_go_with_this_config(esm2: Path) -> None:
    change_config(esm2, hidden_size=2 * TINY["hidden_size"])
    assert_refused(esm2, "has the shape")


def test_a_weight_of_a_masked_language_model_is_named_with_its_prefix(tmp_path: Path) -> None:
    directory = save_esm2(tmp_path, masked_lm=True)
    change_weights(directory, lambda tensors: tensors.__delitem__(f"esm.{OF_ESM2[1]}"))
    assert_refused(directory, f"lack esm.{OF_ESM2[1]}")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_vectors_are_summed_and_stored_in_float32_whatever_the_weights_are(esm2: Path, dtype: str) -> None:
    model = load_model(str(esm2), dtype=dtype)
    vectors = embed(model, ["MKV", "MKVLA"])
    assert vectors.dtype == np.float32
    rounded = torch.from_numpy(vectors).to(getattr(torch, dtype)).float().numpy()
    assert np.array_equal(vectors, rounded) == (dtype == "float32")
