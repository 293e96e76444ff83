"""What may be read of a model directory are ordinary files that lie in it."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from gpu_tasks.errors import ModelLoadError
from gpu_tasks.model_directory.files import read_object
from gpu_tasks.model_directory.reader import read_model
from queue_app.errors import ModelError
from queue_app.model.reader import find_model
from tests.support.model_directories import save_bert

READ = ("config.json", "tokenizer.json", "model.safetensors")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("sound"))


@pytest.fixture
def directory(sound: Path, tmp_path: Path) -> Path:
    (copy := tmp_path / "model").mkdir()
    for path in sound.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    return copy


def a_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path has 107 bytes at most
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path.name)
    finally:
        os.chdir(here)


NO_FILES: dict[str, Callable[[Path], None]] = {
    "a pipe": os.mkfifo,
    "a socket": a_socket,
    "endless": lambda path: path.symlink_to("/dev/zero"),
    "itself": lambda path: path.symlink_to(path.name),
    "nowhere": lambda path: path.symlink_to("nowhere"),
}


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_ordinary_file_is_refused_by_name_and_never_waited_for(
    directory: Path, name: str, kind: str
) -> None:
    (directory / name).unlink()
    NO_FILES[kind](directory / name)
    with pytest.raises(ModelLoadError, match=rf"/{name}: (not an ordinary|No such|Too many)"):
        read_model(directory)


def test_a_pipe_in_a_model_directory_is_refused_by_the_command_too(directory: Path) -> None:
    """The reading that may be kept is looked for before: it reads every file."""
    os.mkfifo(directory / "added_tokens.json")
    with pytest.raises(ModelError, match=r"added_tokens\.json: not an ordinary file"):
        find_model(str(directory))


def test_a_link_out_of_the_directory_is_refused_but_for_weights(directory: Path, tmp_path: Path) -> None:
    whole = read_model(directory).spec.digest
    (directory / "model.safetensors").rename(tmp_path / "elsewhere.safetensors")
    (directory / "model.safetensors").symlink_to(tmp_path / "elsewhere.safetensors")
    assert read_model(directory).spec.digest == whole
    (tmp_path / "secret").write_text("hunter2")
    (directory / "vocab.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(ModelLoadError, match=r"vocab\.txt: leads out of the model directory") as refused:
        read_model(directory)
    assert "hunter2" not in str(refused.value)


def test_a_link_to_a_file_of_the_directory_is_that_file(directory: Path) -> None:
    whole = read_model(directory).spec.digest
    (directory / "config.json").rename(directory / "config.of_2026")
    (directory / "config.json").symlink_to("config.of_2026")
    assert read_model(directory).spec.digest == whole


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a":' * 100_000, '{"a": ' + "9" * 10_000 + "}"])
def test_json_that_is_nested_without_end_or_has_an_endless_number_is_refused(
    directory: Path, content: str
) -> None:
    for name in ("config.json", "tokenizer_config.json"):
        (directory / name).write_text(content)
        with pytest.raises(ModelLoadError, match=rf"/{name}: not readable as JSON"):
            read_object(directory / name)
    with pytest.raises(ModelLoadError, match=r"config\.json: not readable as JSON"):
        read_model(directory)
