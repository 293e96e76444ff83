"""The README and the documentation: their Python runs, their commands and options exist."""

import re
import shlex
import textwrap
from pathlib import Path
from typing import Any

import pytest
import typer

from queue_app.cli.main import app
from queue_app.option_words import NEAR, SAME, flag_of, key_of
from queue_app.settings import runtime_config
from tests.support import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
MODEL = re.compile(r"(facebook|sentence-transformers)/[\w.-]+")
INLINE_CODE = re.compile(r"`([^`\n]+)`")
COMMANDS: dict[str, Any] = getattr(typer.main.get_command(app), "commands")  # noqa: B009
OF_OTHERS = {
    "--help",
    "--help-all",
    "--install-completion",
    "--rm",
}
"""Options of the programs that the pages compare with, and those of `holdfast` itself."""


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page in one language, in its order; those in tabs are indented there."""
    return [textwrap.dedent(code) for _, name, code in FENCE.findall(page.read_text()) if name == language]


def commands(page: Path) -> list[str]:
    """Every line of the page's shell blocks that calls holdfast."""
    lines = "\n".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith("holdfast ")]


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=named)
def test_the_python_of_a_page_runs_from_top_to_bottom(
    page: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a page names a model of the hub, the job of the test has the mock model."""
    monkeypatch.chdir(finished)
    monkeypatch.setenv("HF_HOME", str(finished / "cache"))
    monkeypatch.setenv("HOLDFAST_CACHE", str(finished / "cache"))
    runtime_config.cache_clear()
    code = "\n".join(blocks(page, "python"))
    exec(compile(MODEL.sub("mock:8", code), page.name, "exec"), {"__name__": page.stem})


@pytest.mark.parametrize(
    "line", sorted({line.partition("#")[0].strip() for page in PAGES for line in commands(page)})
)
def test_every_command_of_a_page_is_one(line: str) -> None:
    _, name, *arguments = shlex.split(line.partition("|")[0])
    COMMANDS[name].make_context(name, arguments)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_option_that_a_page_names_exists(page: Path) -> None:
    every = [parameter for command in COMMANDS.values() for parameter in command.params]
    known = {flag for parameter in every for flag in (*parameter.opts, *parameter.secondary_opts)}
    known |= {flag_of(word) for word in (*SAME, *NEAR)}
    text = FENCE.sub("", page.read_text())
    flags = {flag for code in INLINE_CODE.findall(text) for flag in re.findall(r"--[a-z][\w-]*", code)}
    assert {flag_of(key_of(flag.partition("=")[0])) for flag in flags} <= known | OF_OTHERS


def test_the_readers_of_pages_see_blocks_in_tabs(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text('=== "a"\n\n    ```python\n    x = 1\n    ```\n\n```sh\nholdfast a \\\n  b\necho\n```\n')
    assert blocks(page, "python") == ["x = 1\n"]
    assert commands(page) == ["holdfast a    b"]
