"""Progress in the kernel of a real notebook: one output, drawn anew in its place, and nothing elsewhere."""

import re
import subprocess
import sys
from html import unescape
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

from queue_app.status.notebook import in_notebook
from tests.support.command_runs import environment

IMPORT = "import holdfast"
JOB = """
slow = dict(model="mock:8,delay_ms=10", device="cpu", workers=1, toks_per_batch=300, num_shards=2)
texts = ["MKV" * (3 + number % 90) for number in range(90)]
"""


def executed(*cells: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[Any]]:
    """The outputs of each cell, as a notebook keeps them; its kernel has a cache of its own."""
    monkeypatch.setenv("HOLDFAST_CACHE", str(home / "cache"))
    made = [nbformat.v4.new_code_cell(cell) for cell in cells]
    notebook = nbformat.v4.new_notebook(cells=made)
    where = {"metadata": {"path": str(home)}}
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3", resources=where).execute()
    return [cell.outputs for cell in notebook.cells]


def test_a_notebook_shows_one_picture_that_ends_with_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = "from queue_app.status.notebook import in_notebook; print(in_notebook())"
    run = "job = holdfast.embed(sequences=texts, **slow)"
    again = "job = holdfast.embed(sequences=texts, **slow)"
    background = "job = holdfast.start(sequences=texts[:40], **slow); job.wait(); None"
    quiet = "job = holdfast.embed(sequences=texts[:9], progress=False, **slow)"
    cells = executed(ask, IMPORT + JOB, run, again, background, quiet, home=tmp_path, monkeypatch=monkeypatch)
    assert cells[0][0].text == "True\n"
    for [output], last in zip(cells[2:5], ("90/90", "all 2 shards are done already", "40/40"), strict=True):
        assert (output.output_type, set(output.data)) == ("display_data", {"text/html", "text/plain"})
        lines = output.data["text/plain"].splitlines()
        assert len(lines) < 20
        assert lines[0].startswith(f"no output was named: it is {tmp_path}/cache/jobs/")
        assert last in output.data["text/plain"]
        assert "starting" not in output.data["text/plain"]
        shown = unescape(re.sub(r"<[^>]*>", "", output.data["text/html"]))
        assert shown.split() == output.data["text/plain"].split()
    assert cells[5] == []


def test_what_is_said_is_text_and_not_markup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    say = """
from queue_app.status.notebook import open_progress
with open_progress(None) as view:
    view.say("<b>[red]a[/red]</b>")
"""
    ((output,),) = executed(say, home=tmp_path, monkeypatch=monkeypatch)
    assert output.data["text/plain"].strip() == "<b>[red]a[/red]</b>"
    assert "&lt;b&gt;[red]a" in output.data["text/html"]


def test_a_script_and_the_shell_of_a_terminal_are_no_notebooks() -> None:
    assert not in_notebook()
    shell = "from IPython.terminal.interactiveshell import TerminalInteractiveShell as S; S.instance();"
    ask = "from queue_app.status.notebook import in_notebook; print(in_notebook())"
    program = [sys.executable, "-c", f"{shell} {ask}"]
    ended = subprocess.run(program, capture_output=True, text=True, check=True, env=environment())
    assert ended.stdout == "False\n"
