"""What `make mutants` removes is there, and so are the tests that are to notice."""

import re

import pytest

from benchmarks.common.checkout import ROOT
from benchmarks.mutants import MUTANTS, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.guard)
def test_a_mutant_removes_a_guard_that_stands_once_and_names_tests_that_are_there(mutant: Mutant) -> None:
    assert (ROOT / mutant.file).read_text().count(mutant.before) == 1
    path, _, words = mutant.tests.partition(" -k ")
    tests = re.findall(r"^def (test_\w+)", (ROOT / path).read_text(), re.MULTILINE)
    assert any(words in test for test in tests)
