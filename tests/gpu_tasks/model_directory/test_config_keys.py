"""Keys of config.json that transformers heeds and a native family does not: transformers computes then."""

from pathlib import Path
from typing import Any

import pytest

from gpu_tasks import load_model
from gpu_tasks.model_directory.reader import read_model
from tests.support.model_directories import change_config, embed, save_bert, save_esm2, save_roberta
from tests.zoo.reference import differences, transformers_vectors

MOST = 1e-5
RESIDUE = 5
"""The id of ESM-2's A."""


@pytest.mark.parametrize(
    ("save", "changed", "texts"),
    [
        (save_bert, {"is_causal": True}, ["the quick brown fox", "a protein kinase"]),
        (save_esm2, {"mask_token_id": RESIDUE}, ["MKTAYIAKQR", "GGSAAAW"]),
    ],
    ids=["is_causal", "mask_token_id"],
)
def test_a_key_that_changes_what_transformers_computes_is_heeded(
    tmp_path: Path, save: Any, changed: dict[str, Any], texts: list[str]
) -> None:
    directory = change_config(save(tmp_path / "m"), **changed)
    ours = embed(load_model(str(directory)), texts)
    assert differences(ours, transformers_vectors(directory, texts)) <= MOST


def test_learned_positions_that_are_called_rotary_have_an_end(tmp_path: Path) -> None:
    plain = read_model(save_roberta(tmp_path / "m")).spec
    called = read_model(change_config(tmp_path / "m", position_embedding_type="rotary")).spec
    assert (called.max_positions, called.max_length) == (plain.max_positions, plain.max_length)
