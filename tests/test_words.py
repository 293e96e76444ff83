"""One word for one idea, wherever a user reads: in messages, help, pages and the documentation."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT

SAID_OTHERWISE = {
    r"\bset(s|ting)? (it |one |them )?aside\b": "quarantined",
    r"\bfill\b(?! in\b)": "packed",
    r"\bsettled\b": "chosen, or decided",
    r"\btwins?\b(?!\.arrow)": "duplicates",
    r"\bcontent digest\b": "digest; only the run card tells it from the others",
}
PACKAGES = ("checkpoint", "gpu_tasks", "holdfast", "queue_app")
IN_CODE = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]
OF_THE_CARD = ROOT / "queue_app/outputs/run_card"


def messages(path: Path) -> Iterator[str]:
    """Every text in a module but its docstrings, which are for those who read the code."""
    tree = ast.parse(path.read_text())
    explained = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in explained
        # A name that programs use, as a key of JSON, is no sentence.
        if is_text and not node.value.isidentifier():
            yield node.value


def otherwise(text: str) -> list[str]:
    return [
        f"{found[0]}: say {word}"
        for words, word in SAID_OTHERWISE.items()
        if (found := re.search(words, text, re.I))
    ]


@pytest.mark.parametrize("path", IN_CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_module_says_has_one_word_for_one_idea(path: Path) -> None:
    texts = [text for text in messages(path) if "digest" not in text or OF_THE_CARD not in path.parents]
    assert not [(text, found) for text in texts if (found := otherwise(text))]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_has_one_word_for_one_idea(page: Path) -> None:
    assert not [(line, found) for line in page.read_text().splitlines() if (found := otherwise(line))]


def test_the_page_of_jobs_has_one_word_for_one_idea() -> None:
    shown = re.sub(r"<[^>]*>", " ", (ROOT / "queue_app/dashboard/static/page.html").read_text())
    assert not otherwise(shown)


def test_a_word_that_is_said_otherwise_is_found() -> None:
    assert otherwise("2 records set aside, fill 98%") == ["set aside: say quarantined", "fill: say packed"]
