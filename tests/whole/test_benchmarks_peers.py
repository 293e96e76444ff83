"""What `make peers` and `make by-hand` watch of Holdfast, which they hook into, is what happens."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT

pytestmark = pytest.mark.timeout(300)


def run(*arguments: str | Path) -> str:
    """In a process of its own: it ends all that was started from it."""
    command = [sys.executable, "-m", *map(str, arguments)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=290)
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
    return ended.stdout


def test_a_record_that_is_made_nan_is_the_one_that_is_set_aside(tmp_path: Path) -> None:
    chosen = ["--only", "holdfast", "--only-case", "NaN", "--points", "1", "--rows", "60"]
    said = run("benchmarks.peers", *chosen, "--keep", tmp_path / "kept")
    assert "undisturbed : ended, exit 0, 60 saved, 0 again" in said
    assert re.search(
        r"a record that is NaN record text-\d+: ended, exit 3, 59 saved, 0 again, 0 changed", said
    )


def test_the_first_batch_of_the_whole_command_is_seen_before_its_end(tmp_path: Path) -> None:
    chosen = ["--only", "holdfast-1", "--rounds", "1", "--rows", "60", "--home", tmp_path]
    said = run("benchmarks.by_hand", *chosen)
    (line,) = re.findall(r"round 1, holdfast-1: (.*)", said)
    first, begun, written, ended = map(float, re.findall(r"[\d.]+(?= s| to)", line))
    assert 0 < first <= begun <= written <= ended
