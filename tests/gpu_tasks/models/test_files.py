"""The weights that are hashed are the weights that compute: what happens when files change under a model."""

import json
import os
import shutil
import weakref
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import processors
from transformers import ByT5Tokenizer, ElectraConfig, ElectraModel

from gpu_tasks.errors import ModelLoadError, UnsupportedModel
from gpu_tasks.inference.model import EmbeddingModel
from gpu_tasks.model_directory.reader import read_model
from gpu_tasks.models import from_spec
from gpu_tasks.models.files import ModelFiles, model_files
from gpu_tasks.models.loading import load
from gpu_tasks.models.weights import Tensors, read_tensors
from queue_app.model.spec import FoundModel
from tests.support.model_directories import (
    change_weights,
    embed,
    save_bert,
    save_byte_tokenizer,
    save_esm2,
    save_esm2_in_parts,
)

TEXTS = ["MKVLAAG", "KV", "ACDEFGHIKLMNPQRSTVWY"]
OTHER_MODEL = "not the model of the job"


def save_electra(directory: Path) -> Path:
    """One that transformers runs."""
    config = ElectraConfig(
        vocab_size=300, hidden_size=32, embedding_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, pad_token_id=1,
    )  # fmt: skip
    ElectraModel(config).save_pretrained(directory)
    save_byte_tokenizer(directory, processors.RobertaProcessing(("</s>", 2), ("<s>", 0)))
    return directory


FAMILIES: dict[str, Callable[[Path], Path]] = {"esm2": save_esm2, "bert": save_bert, "electra": save_electra}


@pytest.fixture(params=FAMILIES)
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return FAMILIES[request.param](tmp_path / request.param)


def change_numbers(directory: Path) -> None:
    """Other weights of the same shapes, written over the file itself, as `cp` does."""
    path = directory / "model.safetensors"
    other = directory.with_name("other.safetensors")
    save_file(
        {name: 2 * tensor for name, tensor in load_file(path).items()}, other, metadata={"format": "pt"}
    )
    assert other.stat().st_size == path.stat().st_size
    with path.open("r+b") as file:
        file.write(other.read_bytes())


def loaded(reading: FoundModel) -> EmbeddingModel:
    return load(reading.spec, reading.tokenizer)


# ---- while a model is loaded, and between two loads


def test_weights_that_are_overwritten_while_the_model_is_loaded_change_no_vector(directory: Path) -> None:
    model = loaded(read_model(directory))
    before = embed(model, TEXTS)
    change_numbers(directory)
    assert embed(model, TEXTS).tobytes() == before.tobytes()


def test_weights_that_are_cut_off_while_the_model_is_loaded_change_no_vector(directory: Path) -> None:
    """A mapped file would end the process by SIGBUS."""
    model = loaded(read_model(directory))
    before = embed(model, TEXTS)
    os.truncate(directory / "model.safetensors", 100)
    assert embed(model, TEXTS).tobytes() == before.tobytes()


def test_weights_that_were_overwritten_between_two_loads_are_refused_by_name(directory: Path) -> None:
    reading = read_model(directory)
    loaded(reading)
    change_numbers(directory)
    with pytest.raises(ModelLoadError, match=rf"model\.safetensors: {OTHER_MODEL}: its content has changed"):
        loaded(reading)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda path: path.unlink(), "No such file"),
        (lambda path: os.truncate(path, path.stat().st_size - 100), "cut off"),
        (lambda path: path.write_bytes(path.read_bytes() + b"\0"), "longer than it was"),
        (lambda path: (path.unlink(), path.mkdir()), "Is a directory"),
    ],
    ids=["missing", "cut off", "longer", "a folder"],
)
def test_weights_that_are_no_longer_there_as_a_whole_are_refused_by_name(
    directory: Path, change: Callable[[Path], object], why: str
) -> None:
    reading = read_model(directory)
    change(directory / "model.safetensors")
    with pytest.raises(ModelLoadError, match=rf"model\.safetensors: {OTHER_MODEL}: {why}"):
        loaded(reading)


def test_one_part_of_the_weights_that_changed_is_named(tmp_path: Path) -> None:
    save_esm2_in_parts(tmp_path, max_shard_size="100KB")
    reading = read_model(tmp_path)
    path = sorted(tmp_path.glob("*.safetensors"))[1]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelLoadError, match=rf"{path.name}: {OTHER_MODEL}"):
        loaded(reading)


@pytest.mark.parametrize("name", ["config.json"])
def test_a_config_that_changed_under_a_model_that_transformers_runs_is_refused(
    tmp_path: Path, name: str
) -> None:
    directory = save_electra(tmp_path / "electra")
    reading = read_model(directory)
    path = directory / name
    path.write_text(path.read_text().replace('"gelu"', '"relu"'))
    with pytest.raises(ModelLoadError, match=rf"{name}: {OTHER_MODEL}"):
        loaded(reading)


def test_a_slow_tokenizer_is_made_of_the_files_that_were_hashed(tmp_path: Path) -> None:
    directory = save_electra(tmp_path / "electra")
    (directory / "tokenizer.json").unlink()
    ByT5Tokenizer(extra_ids=0).save_pretrained(directory)
    reading = read_model(directory)
    assert reading.spec.tokens.kind == "slow"
    before = loaded(reading).tokenize(TEXTS)
    # What was not there at submit is not seen, whatever transformers would make of it.
    (directory / "tokenizer.json").write_text("{}")
    (directory / "adapter_config.json").write_text("{}")
    assert [ids.tolist() for ids in loaded(reading).tokenize(TEXTS)] == [ids.tolist() for ids in before]
    (directory / "tokenizer_config.json").write_text("{}")
    with pytest.raises(ModelLoadError, match=rf"tokenizer_config\.json: {OTHER_MODEL}"):
        loaded(reading)


@pytest.mark.parametrize("text", [None, '{"version": "1.0"}'])
def test_a_tokenizer_that_is_not_the_one_kept_with_the_job_is_refused(
    tmp_path: Path, text: str | None
) -> None:
    reading = read_model(save_bert(tmp_path))
    with pytest.raises(ModelLoadError, match="kept with the job"):
        load(reading.spec, text)


def test_an_adapter_that_appears_beside_the_model_is_not_seen(tmp_path: Path) -> None:
    """transformers and peft would load it, or another base model, without a word."""
    directory = save_electra(tmp_path / "electra")
    reading = read_model(directory)
    before = embed(loaded(reading), TEXTS)
    (directory / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": "/nowhere", "r": 8, "lora_alpha": 16})
    )
    (directory / "generation_config.json").write_text("{")
    assert embed(loaded(reading), TEXTS).tobytes() == before.tobytes()


def test_the_same_files_at_another_place_are_the_same_model(directory: Path) -> None:
    reading = read_model(directory)
    before = embed(loaded(reading), TEXTS)
    elsewhere = directory.with_name("elsewhere")
    shutil.move(directory, elsewhere)
    moved = replace(reading, spec=replace(reading.spec, path=str(elsewhere)))
    assert embed(loaded(moved), TEXTS).tobytes() == before.tobytes()


# ---- the format


def test_tensors_of_every_dtype_are_those_that_were_saved(tmp_path: Path) -> None:
    directory = save_bert(tmp_path)
    dtypes = [
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
        *(torch.int64, torch.int32, torch.bool),
    ]
    saved = {f"odd {dtype}": torch.arange(21).view(3, 7).to(dtype) for dtype in dtypes}
    saved |= {"none": torch.empty(0, 4), "one": torch.tensor(7.0)}
    change_weights(directory, lambda tensors: tensors.update(saved))
    reading = read_model(directory)
    found = read_tensors(model_files(reading.spec), reading.spec.encoder.weights)
    expected = load_file(directory / "model.safetensors")
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)
        assert found[name].data_ptr() % 64 == 0 or not tensor.numel(), "kernels round by alignment"


def test_a_weight_that_is_no_floating_point_number_is_refused(tmp_path: Path) -> None:
    name = "encoder.layer.0.output.dense.weight"
    directory = change_weights(save_bert(tmp_path), lambda found: found.update({name: found[name].long()}))
    with pytest.raises(UnsupportedModel, match=rf"{name} is stored as torch\.int64"):
        loaded(read_model(directory))


def test_float32_weights_on_the_processor_are_held_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the encoder computes with is the memory that the file was read into, or has taken its place."""
    read: dict[str, weakref.ref[torch.Tensor]] = {}

    def watched(files: ModelFiles, names: Iterable[str]) -> Tensors:
        found = read_tensors(files, names)
        read.update({name: weakref.ref(tensor) for name, tensor in found.items()})
        return found

    monkeypatch.setattr(from_spec, "read_tensors", watched)
    model = loaded(read_model(save_bert(tmp_path)))
    encoder = model.encoder  # type: ignore[attr-defined]
    matrix, norm = (f"encoder.layer.0.{name}.weight" for name in ("intermediate.dense", "output.LayerNorm"))
    laid_out_anew = encoder.layers[0].up.weight.is_mkldnn
    assert read[norm]() is encoder.layers[0].mlp_norm.weight
    assert read[matrix]() is (None if laid_out_anew else encoder.layers[0].up.weight)
    assert np.isfinite(embed(model, TEXTS)).all()
