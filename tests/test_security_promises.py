"""SECURITY.md: every promise names a test, and every test that it names is there."""

import ast
import re

import pytest

from tests.support import ROOT

PAGE = (ROOT / "SECURITY.md").read_text()
PROMISED = re.search(r"^## What is promised$(.*?)^## ", PAGE, re.DOTALL | re.MULTILINE)


def promises() -> list[str]:
    assert PROMISED is not None
    return re.findall(r"^- (.*(?:\n  .*)*)", PROMISED[1], re.MULTILINE)


def named_tests(text: str) -> set[str]:
    return set(re.findall(r"`(test_\w+)`", text))


def every_test() -> set[str]:
    trees = [ast.parse(path.read_text()) for path in (ROOT / "tests").rglob("test_*.py")]
    functions = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return {node.name for node in functions if node.name.startswith("test_")}


def test_every_test_that_the_page_names_exists() -> None:
    assert named_tests(PAGE) - every_test() == set()


@pytest.mark.parametrize("promise", promises(), ids=lambda text: text.partition("`")[0][:60].strip())
def test_a_promise_names_the_test_that_holds_it(promise: str) -> None:
    assert named_tests(promise)
