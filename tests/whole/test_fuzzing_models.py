"""The fuzzer of model directories: its first seeds, and that it notices what it looks for."""

import os
import threading
from pathlib import Path

import pytest

from tests.campaigns.fuzzing import model_directories
from tests.campaigns.fuzzing.changes import Change
from tests.campaigns.fuzzing.model_directories import (
    MODELS,
    changed,
    disagreement,
    judge,
    judge_apart,
    made,
)
from tests.zoo.reference import transformers_vectors

SEEDS = 20
STRUCTURES = 16

pytestmark = pytest.mark.filterwarnings("ignore")  # changed directories make the reference warn


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_changed_directory_gives_the_vectors_of_its_reference_or_is_refused(home: Path, seed: int) -> None:
    """`python -m tests.campaigns.fuzzing.model_directories --first SEED --seeds 1` makes it again."""
    verdict = judge(seed, home)
    assert verdict.wrong is None, str(verdict)


@pytest.mark.parametrize("seed", range(STRUCTURES))
def test_a_directory_that_is_meant_to_break_its_reader_is_refused_by_a_line_or_right(
    home: Path, seed: int
) -> None:
    """`… --structures --first SEED --seeds 1` makes it again."""
    verdict = judge(seed, home, structures=True)
    assert verdict.wrong is None, str(verdict)


def test_a_reader_that_dies_or_does_not_end_is_noticed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_directories, "judge", lambda *_, **__: os.abort())
    assert "died with -6" in str(judge_apart(1, home))
    monkeypatch.setattr(model_directories, "judge", lambda *_, **__: threading.Event().wait())
    monkeypatch.setattr(model_directories, "SECONDS_MOST", 1)
    assert "does not end within 1 s" in str(judge_apart(1, home))


def test_a_seed_makes_the_same_directory_again(tmp_path: Path) -> None:
    def contents(home: Path) -> dict[str, bytes]:
        home.mkdir()
        _, directory, _ = changed(7, home)
        return {
            str(path.relative_to(directory)): path.read_bytes()
            for path in directory.rglob("*")
            if path.is_file()
        }

    assert contents(tmp_path / "once") == contents(tmp_path / "again")


def test_every_seed_changes_something(home: Path, tmp_path: Path) -> None:
    for seed in range(40):
        name, directory, _ = changed(seed, tmp_path)
        before, after = (
            {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}
            for place in (made(name, tmp_path), directory)
        )
        assert before != after, seed


def test_vectors_that_differ_a_little_are_noticed(home: Path) -> None:
    directory = made("bert", home)
    sound = transformers_vectors(directory, MODELS["bert"].records)
    assert disagreement(directory, MODELS["bert"], Change("nothing"), sound) is None
    wrong = disagreement(directory, MODELS["bert"], Change("nothing"), sound * 1.0001)
    assert wrong is not None
    assert wrong.startswith("other vectors")


def test_vectors_where_the_reference_has_none_are_noticed(home: Path, tmp_path: Path) -> None:
    sound = transformers_vectors(made("bert", home), MODELS["bert"].records)
    wrong = disagreement(tmp_path, MODELS["bert"], Change("all deleted"), sound)
    assert wrong is not None
    assert "the reference raises" in wrong
