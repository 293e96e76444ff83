"""The example notebook: what is committed is the outcome of a real run, and it runs again."""

import os
import re
import tempfile
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

from tests.support import ROOT

NOTEBOOK = ROOT / "examples" / "first_embedding.ipynb"
NUM_NAMES = 700
"""Of the 1,889: two workers have them in some seconds."""


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(cell: Any) -> list[tuple[str, tuple[str, ...]]]:
    """What its outputs are: of each the kind, and the types that it can be shown as."""
    return [(output.output_type, tuple(sorted(output.get("data", {})))) for output in cell.outputs]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The notebook's folder, with fewer names; its kernel has no settings of ours, and a cache of its own."""
    lines = (ROOT / "examples" / "protein_names.tsv").read_text().splitlines(keepends=True)
    wanted = [line for line in lines[NUM_NAMES:] if line.endswith("\tco-chaperonin GroEL\n")]
    (tmp_path / "protein_names.tsv").write_text("".join([*lines[:NUM_NAMES], *wanted]))
    for name in [name for name in os.environ if name.startswith("HOLDFAST_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOLDFAST_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.timeout(600)
def test_it_runs_from_top_to_bottom_and_shows_what_is_committed(home: Path) -> None:
    committed = code_cells(nbformat.read(NOTEBOOK, 4))
    notebook = nbformat.read(NOTEBOOK, 4)
    for cell in code_cells(notebook):
        cell.outputs = []
    where = {"metadata": {"path": str(home)}}
    nbclient.NotebookClient(notebook, timeout=500, kernel_name="python3", resources=where).execute()
    ran = code_cells(notebook)
    assert [kinds(cell) for cell in ran] == [kinds(cell) for cell in committed]
    assert ran[0].outputs == committed[0].outputs
    for cells in (ran, committed):
        assert [cell.outputs[-1].data["text/plain"] for cell in cells[-1:]] == ["True"]
        [stopped] = [cell for cell in cells if ".stop()" in cell.source]
        assert re.fullmatch(r"'stopped, [\d,]+ of [\d,]+ done'", stopped.outputs[0].data["text/plain"])


def test_what_is_committed_was_run_in_order_and_names_no_machine() -> None:
    cells = code_cells(nbformat.read(NOTEBOOK, 4))
    assert [cell.execution_count for cell in cells] == [*range(1, len(cells) + 1)]
    text = NOTEBOOK.read_text()
    assert not re.search("Traceback|Warning", text)
    for place in (f"{tempfile.gettempdir()}/", f"{Path.home()}/", f"{ROOT}/"):
        assert place not in text
    assert len(text) < 100_000
