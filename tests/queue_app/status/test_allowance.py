"""What a pipeline is told: 3 where records were quarantined, 0 where as many of them were allowed."""

from pathlib import Path

import pytest

from queue_app.errors import UsageError
from queue_app.status.allowance import Allowance, parse_allowance
from tests.support.command_runs import holdfast
from tests.support.inline_job import embedded
from tests.support.jobs_and_inputs import write_fasta

CPU = ["--device", "cpu", "--workers", "1", "--quiet"]


@pytest.mark.parametrize(
    ("said", "most"),
    [
        (None, 0),
        ("any", 1000),
        ("0", 0),
        ("7", 7),
        ("0%", 0),
        ("1%", 10),
        ("0.1%", 1),
        ("0.09%", 0),
        ("100%", 1000),
    ],
)
def test_so_many_of_a_thousand_and_no_more_are_allowed(said: str | None, most: int) -> None:
    allowed = parse_allowance(said)
    assert allowed.covers(most, 1000)
    assert most == 1000 or not allowed.covers(most + 1, 1000)


@pytest.mark.parametrize("said", ["", "-1", "1.5", "101%", "%", "some", "1 %", "1e3", "nan%"])
def test_what_is_neither_a_number_nor_a_share_is_refused(said: str) -> None:
    with pytest.raises(UsageError, match=r"write a number of records, a share such as 0\.1%"):
        parse_allowance(said)


def test_no_records_at_all_are_within_every_share() -> None:
    assert Allowance(percent=parse_allowance("0%").percent).covers(0, 0)


@pytest.fixture(scope="module")
def fasta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight records, two of which are quarantined."""
    path = write_fasta(tmp_path_factory.mktemp("allowed") / "a.fasta", 6)
    path.write_text(path.read_text() + ">bad\nMK1V\n>empty\n\n")
    return path


def test_a_run_within_what_is_allowed_ends_with_0_and_beyond_it_with_3(fasta: Path, tmp_path: Path) -> None:
    embed = ["embed", fasta, "-m", "mock:8", "-o", tmp_path / "out.npy", *CPU]
    ended = holdfast(*embed, "--allow-quarantine")
    assert "2 quarantined, listed in" in ended.stdout
    assert (tmp_path / "out.npy.quarantine.tsv").exists()
    for said, code in (("=2", 0), ("=1", 3), ("=25%", 0), ("=24.9%", 3)):
        told = holdfast(*embed, f"--allow_quarantine{said}", expect=code).stderr
        assert ("more than --allow-quarantine allows" in told) == (code == 3)
    holdfast(*embed, expect=3)
    assert "write a number of records" in holdfast(*embed, "--allow-quarantine=x", expect=2).stderr


def test_every_command_that_ends_with_3_can_be_told(fasta: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.npy"
    embedded(output, [fasta])
    elsewhere = tmp_path / "out.h5"
    commands = (["resume", output, *CPU], ["export", output, "-o", elsewhere], ["status", output, "--watch"])
    for command in commands:
        holdfast(*command, expect=3)
        holdfast(*command, "--allow-quarantine")
        holdfast(*command, "--allow-quarantine=2")
    assert "is for --watch" in holdfast("status", output, "--allow-quarantine", expect=2).stderr
