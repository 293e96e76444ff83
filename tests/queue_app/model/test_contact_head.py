"""Of which models contacts are predicted: those whose head was trained to. All others are refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import EsmConfig, EsmModel

from queue_app.errors import UsageError
from queue_app.model.contact_head import refuse_contacts
from queue_app.model.reader import find_model
from queue_app.model.spec import ModelSpec, PromptSpec
from tests.support.model_directories import MINILM, change_weights, save_esm2, spec_of, with_contact_head
from tests.zoo.proteins import saprot

Tensors = dict[str, torch.Tensor]
WEIGHT, BIAS = "contact_head.regression.weight", "contact_head.regression.bias"


@pytest.fixture
def esm2(tmp_path: Path) -> Path:
    return with_contact_head(save_esm2(tmp_path / "m"))


def refusal(spec: ModelSpec) -> str:
    with pytest.raises(UsageError) as refused:
        refuse_contacts(spec)
    return str(refused.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("masked_lm", [False, True])
def test_a_trained_head_is_found_whatever_it_is_stored_as(
    tmp_path: Path, dtype: torch.dtype, masked_lm: bool
) -> None:
    directory = with_contact_head(save_esm2(tmp_path, masked_lm=masked_lm))
    change_weights(directory, lambda all_: all_.update({name: each.to(dtype) for name, each in all_.items()}))
    refuse_contacts(spec_of(directory))


@pytest.mark.parametrize("name", [WEIGHT, BIAS])
def test_weights_without_a_part_of_the_head_are_refused_by_its_name(esm2: Path, name: str) -> None:
    change_weights(esm2, lambda tensors: tensors.__delitem__(name))
    assert f"lack {name}" in refusal(spec_of(esm2))


def test_a_head_for_other_layers_is_refused(esm2: Path) -> None:
    change_weights(esm2, lambda tensors: tensors.update({WEIGHT: torch.full((1, 60), 8.0)}))
    assert f"{WEIGHT} of m has 60 numbers, and there are 2 layers of 20 heads" in refusal(spec_of(esm2))


def as_torch_makes_it(tensors: Tensors) -> None:
    """ESM-1v was published without a head, and whoever converted it kept the one that torch had made."""
    made = torch.nn.Linear(tensors[WEIGHT].shape[1], 1)
    tensors[WEIGHT], tensors[BIAS] = made.weight.detach(), made.bias.detach()


def as_transformers_makes_it(tensors: Tensors) -> None:
    shape = {"hidden_size": 80, "num_hidden_layers": 2, "num_attention_heads": 20, "intermediate_size": 8}
    made = EsmModel(EsmConfig(vocab_size=33, pad_token_id=1, **shape)).contact_head.regression
    tensors[WEIGHT], tensors[BIAS] = made.weight.detach(), made.bias.detach()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("make", [as_torch_makes_it, as_transformers_makes_it])
def test_a_head_that_was_never_trained_is_refused(
    esm2: Path, make: Callable[[Tensors], None], seed: int
) -> None:
    torch.manual_seed(seed)
    change_weights(esm2, make)
    assert "the contact head of m was never trained" in refusal(spec_of(esm2))


def test_what_was_read_of_a_directory_before_says_nothing_of_its_head(esm2: Path) -> None:
    """A reading is kept by the names and shapes of weights, which training does not change."""
    refuse_contacts(find_model(str(esm2)).spec)
    change_weights(esm2, as_torch_makes_it)
    assert "was never trained" in refusal(find_model(str(esm2)).spec)


def test_other_models_are_refused_by_name(esm2: Path) -> None:
    assert f"{MINILM.name} is no ESM-2 or ESM-1b" in refusal(spec_of(MINILM))
    assert "mock:8 is no ESM-2" in refusal(find_model("mock:8").spec)
    bases = replace(spec_of(esm2), alphabet="dna")
    assert "is no ESM-2 or ESM-1b that reads proteins residue by residue" in refusal(bases)


def test_letters_of_structures_have_no_contacts(tmp_path: Path) -> None:
    saprot(tmp_path)
    assert "is no ESM-2" in refusal(spec_of(tmp_path))


def test_a_prompt_would_be_part_of_the_map(esm2: Path) -> None:
    assert "a prompt would have contacts too" in refusal(replace(spec_of(esm2), prompt=PromptSpec("M")))
