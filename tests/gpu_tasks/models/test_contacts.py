"""Contacts of ESM-2 beside those that transformers predicts, one sequence at a time."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gpu_tasks import AsyncInferenceRunner, load_model
from gpu_tasks.errors import ModelLoadError, NumericsDeviate, UnsupportedModel
from gpu_tasks.inference.canary import Canary, embed_sequences
from tests.support.jobs_and_inputs import protein
from tests.support.model_directories import (
    MINILM,
    change_weights,
    contact_maps,
    contacts_of_transformers,
    plan_for,
    save_esm2,
    with_contact_head,
)

PROTEINS = [
    "M",
    "MK",
    "MKV",
    "GSHMASMTGGQQMGRGS",
    "WYV" * 40,
    "WYA" * 40,
    "AXBZUO",
    protein(3),
    protein(4) * 3,
]
LAYERS, HEADS = 3, 20
KINDS: dict[str, dict[str, Any]] = {
    "ESM-2": {},
    "ESM-2, of which the head of the language model is kept": {"masked_lm": True},
    "ESM-1v": {"position_embedding_type": "absolute", "token_dropout": False},
    "ESM-1b": {"position_embedding_type": "absolute", "emb_layer_norm_before": True},
}


@pytest.fixture(scope="module")
def esm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_contact_head(save_esm2(tmp_path_factory.mktemp("esm2"), num_hidden_layers=LAYERS))


# ---- what they are


@pytest.mark.parametrize("kind", KINDS)
def test_contacts_are_those_that_transformers_predicts(kind: str, tmp_path: Path) -> None:
    directory = with_contact_head(save_esm2(tmp_path, num_hidden_layers=LAYERS, **KINDS[kind]))
    ours = contact_maps(load_model(str(directory), pool="contacts"), PROTEINS)
    for found, expected in zip(ours, contacts_of_transformers(directory, PROTEINS), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert max(np.ptp(found) for found in ours) > 0.9  # not all of one value, which would prove nothing


def test_a_map_is_symmetric_to_the_bit(esm2: Path) -> None:
    for found in contact_maps(load_model(str(esm2), pool="contacts"), PROTEINS):
        np.testing.assert_array_equal(found, found.T)


def test_a_map_does_not_depend_on_what_is_computed_beside_it(esm2: Path) -> None:
    model = load_model(str(esm2), pool="contacts")
    together = contact_maps(model, PROTEINS)
    for sequence, found in zip(PROTEINS, together, strict=True):
        np.testing.assert_allclose(found, contact_maps(model, [sequence])[0], atol=1e-6)


def test_weights_in_half_precision_are_read_as_transformers_reads_them(esm2: Path, tmp_path: Path) -> None:
    def halve(tensors: dict[str, torch.Tensor]) -> None:
        tensors |= {name: tensor.bfloat16() for name, tensor in tensors.items()}

    for file in esm2.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    directory = change_weights(tmp_path, halve)
    exact = save_esm2(tmp_path / "exact", num_hidden_layers=LAYERS)
    rounded = {name: each.float() for name, each in load_file(directory / "model.safetensors").items()}
    change_weights(exact, lambda tensors: tensors.update(rounded))
    ours = contact_maps(load_model(str(directory), pool="contacts"), PROTEINS[:5])
    for found, expected in zip(ours, contacts_of_transformers(exact, PROTEINS[:5]), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_in_bfloat16_only_the_states_are_rounded(tmp_path: Path) -> None:
    directory = with_contact_head(save_esm2(tmp_path, num_hidden_layers=LAYERS), scale=1.0)
    exact, half = (
        contact_maps(load_model(str(directory), pool="contacts", dtype=dtype), PROTEINS)
        for dtype in ("float32", "bfloat16")
    )
    assert max(np.abs(one - other).max() for one, other in zip(exact, half, strict=True)) < 0.05


# ---- what they cost


class Largest(TorchDispatchMode):
    """The most numbers that any tensor has which is made under it."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        sizes = [each.numel() for each in tree_leaves(made) if isinstance(each, torch.Tensor)]
        self.numel = max(self.numel, *sizes, 0)
        return made


def test_never_more_is_held_than_the_maps_of_one_layer_and_one_row(esm2: Path) -> None:
    model = load_model(str(esm2), pool="contacts")
    staged = model.stage(plan_for(model, ["WYV" * 60] * 2 + ["WYA" * 60]).batch(0))
    with Largest() as largest:
        staged.launch("float32").wait()
    assert largest.numel == HEADS * (180 + 2) ** 2


# ---- what is refused


def test_windows_are_refused(esm2: Path) -> None:
    model = load_model(str(esm2), pool="contacts")
    plan = plan_for(model, ["MKV" * 40], max_length=50)
    with pytest.raises(ValueError, match="windows of a record make no map"):
        list(AsyncInferenceRunner(model).run(plan))


def test_a_directory_without_the_head_is_refused(tmp_path: Path) -> None:
    def take_away(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if "contact_head" in name]:
            del tensors[name]

    with pytest.raises(ModelLoadError, match=r"lack contact_head\.regression\.weight"):
        load_model(str(change_weights(save_esm2(tmp_path), take_away)), pool="contacts")


@pytest.mark.parametrize(
    ("ref", "words"), [(str(MINILM), "only of an ESM-2, ESM-1b or ESM-1v"), ("mock:8", "has no attention")]
)
def test_other_models_are_refused(ref: str, words: str) -> None:
    with pytest.raises(UnsupportedModel, match=words):
        load_model(ref, pool="contacts")


# ---- the device


def test_the_canary_finds_a_head_that_another_device_has_wrong(esm2: Path, tmp_path: Path) -> None:
    for file in esm2.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    sound = embed_sequences(load_model(str(esm2), pool="contacts"))
    assert Canary("GPU-0", "float32", sound).check_against(sound) < 1e-6
    broken = embed_sequences(load_model(str(with_contact_head(tmp_path, scale=-8.0)), pool="contacts"))
    with pytest.raises(NumericsDeviate):
        Canary("GPU-0", "float32", broken).check_against(sound)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_contacts_of_a_gpu_are_those_of_transformers_and_nothing_waits_for_them(esm2: Path) -> None:
    model = load_model(str(esm2), pool="contacts", device="cuda")
    ours = contact_maps(model, PROTEINS)
    for found, expected in zip(ours, contacts_of_transformers(esm2, PROTEINS), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4)
    staged = model.stage(plan_for(model, PROTEINS).batch(0))
    with warnings.catch_warnings(action="ignore"):  # of a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        pending = staged.launch("float32")
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert pending.wait().finite.all()
