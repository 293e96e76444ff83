"""LoRA adapters beside a model, made by hand as peft saves them: merged where plain, else refused."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from gpu_tasks import load_model
from queue_app.errors import ModelError
from queue_app.model.reader import find_model
from tests.support.model_directories import TINY, change_weights, embed, save_bert, save_esm2

DIM, RANK = TINY["hidden_size"], 4
SEQUENCES = ["MKTAYIAKQR", "GGGSLLVKWWACDEFGHI", "M"]
QUERY = "encoder.layer.{}.attention.self.query"
VALUE = "encoder.layer.{}.attention.self.value"
TARGETS = [name.format(layer) for layer in range(2) for name in (QUERY, VALUE)]
CONFIG: dict[str, Any] = {
    "peft_type": "LORA", "base_model_name_or_path": "facebook/esm2_t6_8M_UR50D", "r": RANK, "lora_alpha": 8,
    "target_modules": ["query", "value"], "task_type": "FEATURE_EXTRACTION", "inference_mode": True,
    "bias": "none", "fan_in_fan_out": False, "lora_dropout": 0.1, "init_lora_weights": True,
    "use_rslora": False, "use_dora": False, "modules_to_save": None, "rank_pattern": {}, "alpha_pattern": {},
    "layers_to_transform": None, "peft_version": "0.17.1",
}  # fmt: skip


def halves(prefix: str = "") -> dict[str, torch.Tensor]:
    chance = torch.Generator().manual_seed(3)
    found = {}
    for name in TARGETS:
        for half, shape in (("A", (RANK, DIM)), ("B", (DIM, RANK))):
            tensor = torch.randn(shape, generator=chance) * 0.3
            found[f"base_model.model.{prefix}{name}.lora_{half}.weight"] = tensor
    return found


def add_adapter(directory: Path, prefix: str = "", **changed: Any) -> Path:
    save_file(halves(prefix), directory / "adapter_model.safetensors", metadata={"format": "pt"})
    (directory / "adapter_config.json").write_text(json.dumps({**CONFIG, **changed}))
    return directory


def merge_by_hand(directory: Path, scale: float) -> Path:
    found = halves()

    def merge(tensors: dict[str, torch.Tensor]) -> None:
        for name in TARGETS:
            (stored,) = (each for each in tensors if each.endswith(f"{name}.weight"))
            a, b = (found[f"base_model.model.{name}.lora_{half}.weight"] for half in "AB")
            tensors[stored] += scale * b @ a

    return change_weights(directory, merge)


@pytest.mark.parametrize(
    ("changed", "scale"),
    [
        ({}, 8 / RANK),
        ({"lora_alpha": 3}, 3 / RANK),
        ({"use_rslora": True}, 8 / math.sqrt(RANK)),
        ({"init_lora_weights": "gaussian"}, 8 / RANK),
    ],
    ids=str,
)
@pytest.mark.parametrize("save", [save_esm2, save_bert], ids=["esm2", "bert"])
def test_a_plain_lora_has_the_vectors_of_a_model_that_was_merged_by_hand(
    tmp_path: Path, save: Callable[[Path], Path], changed: dict[str, Any], scale: float
) -> None:
    (tmp_path / "tuned").mkdir()
    tuned = add_adapter(save(tmp_path / "tuned"), **changed)
    merged = merge_by_hand(save(tmp_path / "merged"), scale)
    base = embed(load_model(str(save(tmp_path / "base"))), SEQUENCES)
    vectors = embed(load_model(str(tuned)), SEQUENCES)
    np.testing.assert_allclose(vectors, embed(load_model(str(merged)), SEQUENCES), atol=1e-5)
    assert np.abs(vectors - base).max() > 0.01


@pytest.mark.parametrize("prefix", ["", "esm."], ids=["of a bare model", "of a masked LM"])
@pytest.mark.parametrize("masked_lm", [False, True], ids=["beside a bare model", "beside a masked LM"])
def test_an_adapter_fits_whichever_head_it_or_its_model_was_saved_with(
    tmp_path: Path, prefix: str, masked_lm: bool
) -> None:
    tuned = add_adapter(save_esm2(tmp_path / "tuned", masked_lm=masked_lm), prefix)
    merged = merge_by_hand(save_esm2(tmp_path / "merged", masked_lm=masked_lm), 8 / RANK)
    np.testing.assert_allclose(
        embed(load_model(str(tuned)), SEQUENCES), embed(load_model(str(merged)), SEQUENCES), atol=1e-5
    )


def test_the_adapter_is_part_of_what_the_model_is(tmp_path: Path) -> None:
    directory = save_esm2(tmp_path / "model")
    before = find_model(str(directory)).spec
    after = find_model(str(add_adapter(directory))).spec
    assert before.digest != after.digest
    assert {"adapter_config.json", "adapter_model.safetensors"} <= {file.name for file in after.files}
    halved = {name: tensor / 2 for name, tensor in halves().items()}
    save_file(halved, directory / "adapter_model.safetensors", metadata={"format": "pt"})
    assert find_model(str(directory)).spec.digest != after.digest


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"modules_to_save": ["classifier"]}, "modules_to_save"),
        ({"bias": "all"}, "bias"),
        ({"bias": "lora_only"}, "bias"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"rank_pattern": {"query": 8}}, "rank_pattern"),
        ({"alpha_pattern": {"query": 8}}, "alpha_pattern"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
        ({"trainable_token_indices": [3]}, "trainable_token_indices"),
        ({"peft_type": "IA3"}, "peft_type"),
        ({"peft_type": "LOHA"}, "peft_type"),
        ({"r": 0}, "r:"),
        ({"lora_alpha": "8"}, "lora_alpha"),
        ({"a_key_of_tomorrow": 1}, "a_key_of_tomorrow"),
    ],
    ids=str,
)
def test_what_is_no_plain_lora_is_refused_by_file_and_key(
    tmp_path: Path, changed: dict[str, Any], named: str
) -> None:
    directory = add_adapter(save_esm2(tmp_path / "model"), **changed)
    with pytest.raises(ModelError, match=rf"adapter_config\.json: .*{named}"):
        find_model(str(directory))


@pytest.mark.parametrize(
    ("name", "shape", "why"),
    [
        ("base_model.model.embeddings.word_embeddings.lora_embedding_A", (RANK, 33), "lora_embedding_A"),
        (f"base_model.model.{TARGETS[0]}.lora_magnitude_vector.weight", (DIM,), "lora_magnitude_vector"),
        ("base_model.model.classifier.weight", (2, DIM), "classifier"),
        (f"base_model.model.{TARGETS[0]}.base_layer.bias", (DIM,), "bias"),
        ("base_model.model.encoder.layer.9.attention.self.query.lora_A.weight", (RANK, DIM), "layer.9"),
    ],
)
def test_tensors_that_are_no_half_of_a_weight_are_refused_by_name(
    tmp_path: Path, name: str, shape: tuple[int, ...], why: str
) -> None:
    directory = add_adapter(save_esm2(tmp_path / "model"))
    path = directory / "adapter_model.safetensors"
    save_file({**load_file(path), name: torch.ones(shape)}, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=why):
        find_model(str(directory))


def test_halves_of_another_shape_are_refused(tmp_path: Path) -> None:
    directory = add_adapter(save_esm2(tmp_path / "model"))
    path = directory / "adapter_model.safetensors"
    wrong = {
        name: tensor[..., :-1].contiguous() if "lora_A" in name else tensor
        for name, tensor in halves().items()
    }
    save_file(wrong, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match="makes"):
        find_model(str(directory))


def test_an_adapter_alone_is_refused_and_names_its_model(tmp_path: Path) -> None:
    directory = add_adapter(save_esm2(tmp_path / "model"))
    for name in ("config.json", "model.safetensors"):
        (directory / name).unlink()
    with pytest.raises(ModelError, match=r"adapter alone.*facebook/esm2_t6_8M_UR50D"):
        find_model(str(directory))


def test_an_adapter_without_its_weights_is_refused_also_where_they_are_pickled(tmp_path: Path) -> None:
    directory = add_adapter(save_esm2(tmp_path / "model"))
    shutil.move(directory / "adapter_model.safetensors", directory / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"adapter_config\.json: no adapter_model\.safetensors"):
        find_model(str(directory))
