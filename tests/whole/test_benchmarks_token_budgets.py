"""Token budgets are measured, at a tiny size."""

import subprocess
import sys
from pathlib import Path

from tests.support import ROOT


def test_the_table_shows_every_budget_and_names_one(tmp_path: Path) -> None:
    sizes = "--models tiny --budgets 16 1024 --threads 1 --rounds 2 --seconds 0.2 --device cpu"
    command = [sys.executable, "-m", "benchmarks.token_budgets", *sizes.split()]
    report = tmp_path / "budgets.md"
    subprocess.run([*command, "--report", report], check=True, capture_output=True, cwd=ROOT)
    rows = [line.split("|")[1:-1] for line in report.read_text().splitlines() if line.startswith("| ")]
    names, *_, wanted = zip(*([cell.strip() for cell in row] for row in rows), strict=True)
    assert names == ("budget", "---", "16", "1,024")
    assert wanted[2:].count("wanted") == 1
