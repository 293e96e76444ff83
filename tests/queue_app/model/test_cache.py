"""Readings that are kept: of the very same files and readers, or none."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

import gpu_tasks
from gpu_tasks.model_directory.reader import read_model
from queue_app.errors import ModelError
from queue_app.model import cache, reader
from queue_app.model.cache import HOME, KEPT, find_reading, keep_reading, reading_key
from queue_app.model.reader import find_model
from queue_app.model.spec import FoundModel
from tests.support.model_directories import change_json, change_weights, save_esm2


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where readings are kept in this test."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return HOME.expanduser()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_esm2(tmp_path / "model", num_hidden_layers=1, hidden_size=40, intermediate_size=32)


def read_without_a_child(path: Path, monkeypatch: pytest.MonkeyPatch) -> FoundModel:
    with monkeypatch.context() as patch:
        patch.setattr(reader, "MODULE", "there_is_no_such_reader")
        return find_model(str(path))


def test_the_same_files_are_read_once_wherever_they_lie(
    home: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = find_model(str(model))
    moved = model.rename(model.with_name("elsewhere"))
    again = read_without_a_child(moved, monkeypatch)
    assert again.spec.identity() == first.spec.identity()
    assert (again.spec.files, again.spec.digest) == (first.spec.files, first.spec.digest)
    assert (again.spec.path, again.spec.name) == (str(moved), "elsewhere")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", None),
        ("adapter_config.json", "{}"),
        ("modules.json", "[]"),
        ("1_Pooling/config.json", "{}"),
    ],
)
def test_another_file_is_another_model_that_is_read_anew(
    home: Path, model: Path, name: str, content: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_model(str(model))
    path = model / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content if content is not None else path.read_text() + " ")
    with pytest.raises(ModelError, match="there_is_no_such_reader"):
        read_without_a_child(model, monkeypatch)


def test_other_weights_of_the_same_shapes_have_their_own_digest(
    home: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = find_model(str(model)).spec
    change_weights(model, lambda tensors: tensors.update({name: each + 1 for name, each in tensors.items()}))
    after = read_without_a_child(model, monkeypatch).spec
    assert after.digest != before.digest
    assert after == read_model(model).spec


def test_other_rules_are_another_reading(home: Path, model: Path) -> None:
    assert reading_key(model, "auto") != reading_key(model, "plain")


def test_any_change_of_the_code_that_reads_is_another_reading(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = shutil.copytree(Path(gpu_tasks.__file__).parent, tmp_path / "gpu_tasks")
    there = SimpleNamespace(origin=str(package / "__init__.py"))
    monkeypatch.setattr(cache, "find_spec", lambda _: there)
    sources, keys = [*package.rglob("*.py")], {reading_key(model, "auto")}
    for source in sources:
        source.write_text(source.read_text() + "# changed")
        keys.add(reading_key(model, "auto"))
    assert len(keys) == 1 + len(sources)


def test_what_is_refused_is_not_kept(home: Path, model: Path) -> None:
    change_json(model / "config.json", quantization_config={"load_in_8bit": True})
    with pytest.raises(ModelError, match="quantization_config"):
        find_model(str(model))
    assert not list(home.glob("*"))


def test_a_damaged_reading_and_one_in_a_strange_home_count_for_nothing(home: Path, model: Path) -> None:
    found = find_model(str(model)).spec
    (kept,) = home.glob("*.json")
    assert find_reading(kept.stem, model, found.name, "") is not None
    home.chmod(0o777)
    assert find_reading(kept.stem, model, found.name, "") is None
    home.chmod(0o700)
    kept.write_text(kept.read_text()[:100])
    assert find_reading(kept.stem, model, found.name, "") is None
    assert find_model(str(model)).spec == found


def test_no_more_than_some_are_kept(home: Path) -> None:
    for number in range(KEPT + 3):
        keep_reading(f"{number:032x}", {"spec": {}, "tokenizer": None})
    assert len(list(home.glob("*"))) == KEPT
    assert json.loads((home / f"{KEPT + 2:032x}.json").read_text()) == {"spec": {}, "tokenizer": None}
