"""What is said of a model is one line that a screen can hold, whatever the model's files say."""

from gpu_tasks.errors import MESSAGE_CHARACTERS, ModelLoadError


def test_a_name_without_end_in_a_model_makes_no_error_without_end() -> None:
    said = str(ModelLoadError(f"config.json: model_type {'x' * 1_000_000} is not known; convert it"))
    assert len(said) < MESSAGE_CHARACTERS + 200
    assert said.startswith("config.json: model_type x")
    assert said.endswith("is not known; convert it")


def test_an_escape_character_of_a_model_reaches_no_terminal() -> None:
    assert "\x1b" not in str(ModelLoadError("modules.json: type \x1b[2J is none"))
