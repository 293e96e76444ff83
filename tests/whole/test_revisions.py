"""A hub model by its revision, out of the hub client's own cache: the hub itself is never asked."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpu_tasks import load_model
from tests.support.command_runs import holdfast
from tests.support.model_directories import embed, save_esm2

OLD, NEW = "a" * 40, "b" * 40


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two commits of org/tiny: main and the branch refs/pr/7 point to them."""
    home = tmp_path_factory.mktemp("hf")
    model = home / "hub" / "models--org--tiny"
    for commit, width in ((OLD, 40), (NEW, 80)):
        save_esm2(model / "snapshots" / commit, hidden_size=width)
    for name, commit in (("main", OLD), ("refs/pr/7", NEW)):
        (model / "refs" / name).parent.mkdir(parents=True, exist_ok=True)
        (model / "refs" / name).write_text(commit)
    return home


def found(cache: Path, revision: str | None) -> tuple[str, str, int]:
    """By a process of its own, as the client reads its settings when it is imported."""
    code = (
        "import sys, json; from queue_app.model.reader import find_model; "
        f"spec = find_model('org/tiny', revision={revision!r}).spec; "
        "print(json.dumps([spec.name, spec.revision, spec.dim]))"
    )
    env = {**os.environ, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "1"}
    ended = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    name, commit, dim = json.loads(ended.stdout)
    return name, commit, dim


@pytest.mark.parametrize(
    ("revision", "commit", "dim"),
    [(None, OLD, 40), ("main", OLD, 40), ("refs/pr/7", NEW, 80), (NEW, NEW, 80)],
)
def test_a_revision_is_the_commit_that_it_names(
    cache: Path, revision: str | None, commit: str, dim: int
) -> None:
    assert found(cache, revision) == ("org/tiny", commit, dim)


def test_the_card_names_the_commit(cache: Path, tmp_path: Path) -> None:
    fasta, output = tmp_path / "in.fasta", tmp_path / "out.npy"
    fasta.write_text(">a\nMKTAYIAKQR\n")
    on = {"HF_HOME": str(cache), "HF_HUB_OFFLINE": "1"}
    holdfast("embed", fasta, "-m", "org/tiny", "-o", output, "--device", "cpu", "--workers", "1", **on)
    assert json.loads((tmp_path / "out.npy.card.json").read_text())["model"]["revision"] == OLD
    assert f"| revision on the hub | {OLD} |" in (tmp_path / "out.npy.card.md").read_text()


def test_a_directory_has_no_revision(tmp_path: Path) -> None:
    directory = save_esm2(tmp_path / "model")
    assert embed(load_model(str(directory)), ["MKT"]).shape == (1, 80)
    code = f"from queue_app.model.reader import find_model; find_model({str(directory)!r}, revision='main')"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert "is a directory, which has no revisions" in ended.stderr
