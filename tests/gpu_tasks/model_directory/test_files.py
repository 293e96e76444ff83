"""What may be read of a model directory are ordinary files that lie in it."""

import json
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


@pytest.mark.parametrize(
    "name",
    [
        "config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
        "added_tokens.json", "vocab.json",
    ],
)  # fmt: skip
def test_half_a_character_in_any_json_is_refused_with_its_file_and_key(directory: Path, name: str) -> None:
    """What tokenizers, safetensors and the file system refuse, each in words of its own, or not at all."""
    path = directory / name
    fields = json.loads(path.read_bytes()) if path.exists() else {}
    for key, value in (("_name_or_path", ["a", "b\ud800"]), ("unk\udc80", 1)):
        path.write_text(json.dumps({**fields, key: value}))
        with pytest.raises(
            ModelLoadError, match=rf"/{name}: .*{key[:3]}.*: holds .ud[8c][08]0, which is half"
        ):
            read_model(directory)


def test_a_whole_character_that_json_writes_in_two_halves_is_one(directory: Path) -> None:
    fields = json.loads((directory / "config.json").read_bytes())
    (directory / "config.json").write_text(json.dumps({**fields, "_name_or_path": "\N{DNA DOUBLE HELIX}"}))
    assert r"\ud83e\uddec" in (directory / "config.json").read_text()
    assert read_object(directory / "config.json")["_name_or_path"] == "\N{DNA DOUBLE HELIX}"
    read_model(directory)


def test_json_is_utf_8_as_the_reference_reads_it(directory: Path) -> None:
    whole = (directory / "config.json").read_text()
    surrogate = whole.rstrip()[:-1].encode() + b', "x": "\xed\xa0\x80"}'
    for content in (whole.encode("utf-16"), surrogate, b"\xef\xbb\xbf" + whole.encode()):
        (directory / "config.json").write_bytes(content)
        with pytest.raises(ModelLoadError, match=r"config\.json: not readable as JSON"):
            read_model(directory)


def test_half_a_character_in_a_head_of_safetensors_is_refused(directory: Path) -> None:
    path = directory / "model.safetensors"
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    head = json.loads(data[8 : 8 + length])
    head["__metadata__"] = {"format": "pt\ud800"}
    written = json.dumps(head).encode()
    path.write_bytes(len(written).to_bytes(8, "little") + written + data[8 + length :])
    with pytest.raises(
        ModelLoadError, match=r"model\.safetensors: damaged .*format: holds .ud800, which is half"
    ):
        read_model(directory)
