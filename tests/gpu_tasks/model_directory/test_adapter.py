"""A LoRA adapter beside a model, against the two thin layers that it is, beside transformers' own."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer, PreTrainedModel

from gpu_tasks.errors import ModelLoadError
from gpu_tasks.model_directory.reader import read_model
from gpu_tasks.models.loading import load
from tests.gpu_tasks.models.test_files import save_electra
from tests.support.model_directories import change_weights, embed, save_bert, save_esm2

TEXTS = ["MKVLAAG", "KV", "ACDEFGHIKLMNPQRSTVWY"]
FAMILIES: dict[str, Callable[[Path], Path]] = {"esm2": save_esm2, "bert": save_bert, "electra": save_electra}


def save_adapter(directory: Path, **options: Any) -> PreTrainedModel:
    """Beside the model, as peft saves it, with random halves; answers the tuned model."""
    settings = {"r": 4, "lora_alpha": 8, "target_modules": ["query", "value"], **options}
    rank, alpha = settings["r"], settings["lora_alpha"]
    scale = alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)
    tuned = AutoModel.from_pretrained(directory).eval()
    generator, halves = torch.Generator().manual_seed(5), {}
    for name, module in tuned.named_modules():
        if isinstance(module, torch.nn.Linear) and name.endswith(tuple(settings["target_modules"])):
            first = torch.randn(rank, module.in_features, generator=generator) * 0.3
            second = torch.randn(module.out_features, rank, generator=generator) * 0.3
            halves |= {f"base_model.model.{name}.lora_A.weight": first}
            halves |= {f"base_model.model.{name}.lora_B.weight": second}
            module.register_forward_hook(partial(_add, first, second, scale))
    assert halves
    save_file(halves, directory / "adapter_model.safetensors", metadata={"format": "pt"})
    plain = {"peft_type": "LORA", "bias": "none", "fan_in_fan_out": False, "inference_mode": True}
    (directory / "adapter_config.json").write_text(json.dumps({**plain, **settings}))
    return tuned


def _add(
    first: torch.Tensor, second: torch.Tensor, scale: float, module: object, inputs: Any, output: Any
) -> Any:
    """https://arxiv.org/abs/2106.09685: what the two thin layers make of the same input, on top."""
    return output + scale * (inputs[0] @ first.T @ second.T)


def means(tuned: PreTrainedModel, directory: Path, num_special: tuple[int, int]) -> np.ndarray:
    tokenizer = AutoTokenizer.from_pretrained(directory)
    found = []
    for text in TEXTS:
        with torch.inference_mode():
            hidden = tuned(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        found.append(hidden[num_special[0] : len(hidden) - num_special[1]].mean(dim=0).numpy())
    return np.array(found)


@pytest.mark.parametrize(
    "options",
    [{}, {"lora_alpha": 3, "use_rslora": True}, {"target_modules": ["output.dense"], "r": 2}],
    ids=["plain", "rank-stabilized", "other layers"],
)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_lora_is_merged_into_the_weights(family: str, options: dict[str, Any], tmp_path: Path) -> None:
    directory = FAMILIES[family](tmp_path)
    plain = embed(load(read_model(directory).spec, read_model(directory).tokenizer), TEXTS)
    tuned = save_adapter(directory, **options)
    reading = read_model(directory)
    model = load(reading.spec, reading.tokenizer)
    vectors = embed(model, TEXTS)
    expected = means(tuned, directory, (len(model.prefix), len(model.suffix)))
    np.testing.assert_allclose(vectors, expected, rtol=1e-4, atol=2e-5)
    assert np.abs(vectors - plain).max() > 0.01


def test_a_lora_of_a_model_with_a_head_is_merged_by_the_stored_names(tmp_path: Path) -> None:
    directory = save_esm2(tmp_path, masked_lm=True)
    tuned = save_adapter(directory)
    reading = read_model(directory)
    model = load(reading.spec, reading.tokenizer)
    np.testing.assert_allclose(embed(model, TEXTS), means(tuned, directory, (1, 1)), rtol=1e-4, atol=2e-5)


def test_a_lora_whose_weights_changed_is_refused(tmp_path: Path) -> None:
    directory = save_esm2(tmp_path)
    save_adapter(directory)
    reading = read_model(directory)
    path = directory / "adapter_model.safetensors"
    save_file({name: 2 * tensor for name, tensor in load_file(path).items()}, path)
    with pytest.raises(ModelLoadError, match=r"adapter_model\.safetensors: not the model of the job"):
        load(reading.spec, reading.tokenizer)


def test_a_lora_that_changes_what_the_model_does_not_have_is_refused(tmp_path: Path) -> None:
    directory = save_esm2(tmp_path)
    save_adapter(directory)
    reading = read_model(directory)
    adapter = reading.spec.adapter
    assert adapter is not None
    elsewhere = replace(adapter, scales=(*adapter.scales[1:], ("nowhere.weight", 1.0)))
    with pytest.raises(ModelLoadError, match=r"changes nowhere\.weight, which the model does not have"):
        load(replace(reading.spec, adapter=elsewhere), reading.tokenizer)
    fewer = replace(adapter, scales=adapter.scales[1:])
    with pytest.raises(ModelLoadError, match="belongs to no weight of the model"):
        load(replace(reading.spec, adapter=fewer), reading.tokenizer)


def test_bits_of_a_merged_model_are_those_of_its_merged_copy(tmp_path: Path) -> None:
    """As where somebody merges the adapter beforehand, in float32."""
    directory = save_bert(tmp_path / "tuned")
    save_adapter(directory)
    reading = read_model(directory)
    vectors = embed(load(reading.spec, reading.tokenizer), TEXTS)
    adapter = reading.spec.adapter
    assert adapter is not None
    halves, names = load_file(directory / adapter.file), dict(adapter.names)
    for file in ("adapter_model.safetensors", "adapter_config.json"):
        (directory / file).unlink()

    def merge(tensors: dict[str, torch.Tensor]) -> None:
        for name, scale in adapter.scales:
            first, second = (halves[f"{names[name]}.lora_{half}.weight"] for half in "AB")
            tensors[name] += scale * (second @ first)

    merged = read_model(change_weights(directory, merge))
    assert embed(load(merged.spec, merged.tokenizer), TEXTS).tobytes() == vectors.tobytes()
    assert json.loads((directory / "config.json").read_bytes())["model_type"] == "bert"
