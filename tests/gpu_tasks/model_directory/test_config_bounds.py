"""Numbers that decide how much is allocated are looked at before anything is."""

from pathlib import Path
from typing import Any

import pytest

from gpu_tasks.errors import ModelLoadError
from gpu_tasks.model_directory.config_bounds import BOUNDS, require_bounded

PATH = Path("model/config.json")


@pytest.mark.parametrize("key", BOUNDS)
@pytest.mark.parametrize("value", [10**12, 10**400, -5, 1.5, "7", True, [7, 10**12], "wide"])
def test_a_number_of_no_model_is_refused_with_its_key(key: str, value: Any) -> None:
    for fields in ({key: value}, {"text_config": {key: value}}):
        with pytest.raises(ModelLoadError, match=rf"^model/config\.json: {key}=.*not a whole") as refused:
            require_bounded(PATH, fields)
        assert len(str(refused.value)) < 200


@pytest.mark.parametrize("key", BOUNDS)
def test_numbers_of_models_pass(key: str) -> None:
    require_bounded(PATH, {key: None, "decoder": {key: 8}, "parts": [{key: [8, 8]}], "rope_theta": 1e6})


def test_what_is_nested_too_deeply_is_refused() -> None:
    fields: dict[str, Any] = {}
    for _ in range(900):
        fields = {"a": [fields]}
    with pytest.raises(ModelLoadError, match="nested too deeply"):
        require_bounded(PATH, fields)


@pytest.mark.parametrize("value", [-1, 1.5, 10**400, float("nan")])
def test_a_dropout_that_is_no_probability_is_refused(value: float) -> None:
    with pytest.raises(ModelLoadError, match=r"hidden_dropout_prob=.*: not a probability"):
        require_bounded(PATH, {"hidden_dropout_prob": value})
    require_bounded(PATH, {"hidden_dropout_prob": 0.1, "token_dropout": True, "classifier_dropout": None})
