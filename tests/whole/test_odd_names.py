"""A whole job in a place of whatever name: it is done, or refused in one line. What it leaves is closed."""

import os
from pathlib import Path

import numpy as np
import pytest

from tests.support.command_runs import holdfast
from tests.support.jobs_and_inputs import write_fasta

ODD = "a\"b 'c' \\\\ # %s é日本 -x"
CPU = ["--device", "cpu", "--workers", "1", "--quiet"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = tmp_path / ODD
    made.mkdir()
    return made


def test_a_job_in_a_place_of_an_odd_name_is_done_and_all_but_its_output_is_closed(home: Path) -> None:
    """As from a shell whose umask lets a group write: what is handed on follows it."""
    fasta = write_fasta(home / "in.fasta", 20)
    before = os.umask(0o002)
    try:
        holdfast("embed", fasta, "-m", "mock:8", "-o", home / "out.npy", "--keep-checkpoints", *CPU)
    finally:
        os.umask(before)
    assert np.load(home / "out.npy").shape == (20, 8)
    handed_on = [path for path in home.iterdir() if path.is_file() and path != fasta]
    assert {path.stat().st_mode & 0o777 for path in handed_on} == {0o664}
    job_dir = home / "out.npy.holdfast"
    kept = [job_dir, *job_dir.rglob("*")]
    assert {"server", "logs", "checkpoints", "results"} <= {path.name for path in kept}
    opened = {path: oct(path.stat().st_mode) for path in kept if path.stat().st_mode & 0o077}
    assert opened == {}


@pytest.mark.parametrize(
    "where",
    [
        ["in.fasta", "-m", "mock:8", "-o", 'x"\nloadmodule /tmp/x.so\n"/out.npy'],
        ["in.fasta", "-m", "mock:8", "-o", "out.npy", "--job-dir", "x\r\ny"],
        ["in.fasta", "-m", "mo\x1bck", "-o", "out.npy"],
        ["in\x7f.fasta", "-m", "mock:8", "-o", "out.npy"],
        ["in.fasta", "-m", "mock:8", "-o", "out\x85.npy"],
    ],
)
def test_a_name_with_a_control_character_is_refused_in_one_line_and_makes_nothing(
    where: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_fasta(tmp_path / "in.fasta", 3)
    (line,) = holdfast("embed", *where, *CPU, expect=2).stderr.splitlines()
    assert "a name with a control character in it" in line
    assert line.isprintable()
    assert [path.name for path in tmp_path.iterdir()] == ["in.fasta"]
