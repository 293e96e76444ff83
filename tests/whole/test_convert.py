"""`holdfast convert`: pickled weights become safetensors, and nothing of a pickle is run."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.gpu_tasks.models.test_mosaic import SEQUENCES, reference
from tests.support.command_runs import holdfast
from tests.support.model_directories import MINILM, save_mosaic


class Evil:
    """What a pickle of it does when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def pickled(directory: Path, state: object, name: str = "pytorch_model.bin", **options: Any) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    torch.save(state, directory / name, **options)
    return directory


def refusal(*arguments: str | Path) -> str:
    (line,) = holdfast("convert", *arguments, expect=2).stderr.splitlines()
    return line


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DNABERT-2 as it lies on the hub: a pickle alone."""
    directory = save_mosaic(tmp_path_factory.mktemp("hub"))
    weights = directory / "model.safetensors"
    pickled(directory, load_file(weights))
    weights.unlink()
    return directory


def test_dnabert_2_as_it_lies_on_the_hub_has_the_vectors_of_its_formulas(hub: Path, tmp_path: Path) -> None:
    fasta = tmp_path / "in.fasta"
    fasta.write_text("".join(f">r{number}\n{each}\n" for number, each in enumerate(SEQUENCES)))
    command = ("embed", fasta, "-o", tmp_path / "out.npy", "--device", "cpu", "--workers", "1", "-m")
    assert f"holdfast convert {hub}" in holdfast(*command, hub, expect=2).stderr
    holdfast("convert", hub, "-o", tmp_path / "new")
    holdfast(*command, tmp_path / "new")
    expected = np.array([reference(tmp_path / "new", each).mean(axis=0) for each in SEQUENCES])
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, atol=1e-5)


def test_every_tensor_keeps_its_name_its_type_and_its_bytes(tmp_path: Path) -> None:
    shared = torch.arange(12.0).reshape(3, 4)
    state = {
        "embed.weight": shared,
        "decoder.weight": shared,
        "decoder.first_row": shared[0],
        "transposed": shared.T,
        "LayerNorm.gamma": torch.ones(3, dtype=torch.float16),
        "bfloat": torch.full((2,), 1.5, dtype=torch.bfloat16),
        "position_ids": torch.arange(5),
        "nothing": torch.empty(0),
        "number": torch.tensor(7.0),
    }
    directory = pickled(tmp_path / "model", state)
    assert json.loads(holdfast("convert", directory, "--json").stdout) == {
        "written": [str(directory / "model.safetensors")]
    }
    found = load_file(directory / "model.safetensors")
    assert found.keys() == state.keys()
    for name, tensor in state.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(found[name], tensor)
    assert sorted(path.name for path in directory.iterdir()) == ["model.safetensors", "pytorch_model.bin"]


def test_a_pickle_from_before_torch_1_6_is_read(tmp_path: Path) -> None:
    state = {"weight": torch.arange(3.0)}
    directory = pickled(tmp_path / "model", state, _use_new_zipfile_serialization=False)
    holdfast("convert", directory)
    assert torch.equal(load_file(directory / "model.safetensors")["weight"], state["weight"])


def test_the_pickles_of_an_index_become_one_file(tmp_path: Path) -> None:
    names = ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin")
    directory = pickled(tmp_path / "model", {"a": torch.ones(2)}, names[0])
    pickled(directory, {"b": torch.zeros(3)}, names[1])
    index = {"metadata": {}, "weight_map": {"a": names[0], "b": names[1]}}
    (directory / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    holdfast("convert", directory)
    found = load_file(directory / "model.safetensors")
    assert found.keys() == {"a", "b"}
    (directory / names[1]).unlink()
    said = refusal(directory, "--overwrite")
    assert f"weight_map: '{names[1]}' is no file beside it" in said


def test_the_modules_of_a_sentence_transformers_directory_are_converted_too(tmp_path: Path) -> None:
    directory = shutil.copytree(MINILM, tmp_path / "model")
    dense = {"linear.weight": torch.eye(8, 384), "linear.bias": torch.ones(8)}
    pickled(directory / "2_Dense", dense)
    fields = {
        "in_features": 384, "out_features": 8, "bias": True,
        "activation_function": "torch.nn.modules.linear.Identity",
    }  # fmt: skip
    (directory / "2_Dense" / "config.json").write_text(json.dumps(fields))
    modules = json.loads((directory / "modules.json").read_text())
    kind = "sentence_transformers.models.Dense"
    modules.append({"idx": 3, "name": "3", "path": "2_Dense", "type": kind})
    (directory / "modules.json").write_text(json.dumps(modules))
    assert holdfast("convert", directory).stdout.split() == [str(directory / "2_Dense" / "model.safetensors")]
    assert load_file(directory / "2_Dense" / "model.safetensors").keys() == dense.keys()


def test_what_is_there_already_stays_unless_it_is_to_be_made_anew(tmp_path: Path) -> None:
    directory = pickled(tmp_path / "model", {"a": torch.ones(2)})
    (directory / "model.safetensors").write_bytes(b"mine")
    assert "there already" in refusal(directory)
    assert (directory / "model.safetensors").read_bytes() == b"mine"
    holdfast("convert", directory, "--overwrite")
    assert load_file(directory / "model.safetensors").keys() == {"a"}


def test_a_new_directory_has_everything_but_the_pickles_and_takes_no_others_place(tmp_path: Path) -> None:
    directory = pickled(tmp_path / "model", {"a": torch.ones(2)})
    (directory / "config.json").write_text("{}")
    (tmp_path / "new").mkdir()
    holdfast("convert", directory, "-o", tmp_path / "new")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["config.json", "model.safetensors"]
    assert sorted(path.name for path in directory.iterdir()) == ["config.json", "pytorch_model.bin"]
    for overwrite in ([], ["--overwrite"]):
        assert "not empty" in refusal(directory, "-o", tmp_path / "new", *overwrite)
    assert "within the model's directory" in refusal(directory, "-o", directory / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "new"]


def test_a_pickle_that_wants_to_run_code_is_refused_and_nothing_of_it_is_run(tmp_path: Path) -> None:
    directory = pickled(tmp_path / "model", {"a": torch.ones(2), "b": Evil(tmp_path / "ran")})
    for where in ([], ["-o", tmp_path / "new"]):
        said = refusal(directory, *where)
        assert f"{directory}/pytorch_model.bin: wants to run code when it is read (posix.mkdir)" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]
    assert [path.name for path in directory.iterdir()] == ["pytorch_model.bin"]


@pytest.mark.parametrize(
    ("state", "why"),
    [
        ({"state_dict": {"a": torch.ones(2)}}, "'state_dict' is a dict, and no tensor"),
        ({"a": torch.ones(2), "epoch": 3}, "'epoch' is a int, and no tensor"),
        ([torch.ones(2)], "holds list, and no weights by name"),
        ({"a": torch.eye(2).to_sparse()}, "a is sparse or quantized"),
    ],
    ids=["nested", "beside numbers", "a list", "sparse"],
)
def test_what_is_no_plain_state_dict_is_refused_by_name(tmp_path: Path, state: object, why: str) -> None:
    assert why in refusal(pickled(tmp_path / "model", state))


def test_a_damaged_pickle_and_a_directory_without_one_are_refused(tmp_path: Path) -> None:
    directory = pickled(tmp_path / "model", {"a": torch.ones(2000)})
    content = (directory / "pytorch_model.bin").read_bytes()
    (directory / "pytorch_model.bin").write_bytes(content[: len(content) // 2])
    assert "damaged, or no file of torch" in refusal(directory)
    (directory / "pytorch_model.bin").unlink()
    assert "nothing to convert" in refusal(directory)
    assert "no directory" in refusal(tmp_path / "nowhere")
