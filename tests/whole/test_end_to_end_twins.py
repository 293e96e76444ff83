"""Twins and copied vectors through the real command, and what a kill does to them."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.support.command_runs import committed_batches, holdfast, left_over, running, wait_for_progress
from tests.support.inline_job import embedded, write_numbered
from tests.support.waiting import wait_for

NUMBERS = [number for _ in range(4) for number in range(150)]
SLOW = ["-m", "mock:16,delay_ms=40", "--toks-per-batch", "512", "--commit-seconds", "0.2"]
CPU = ["--device", "cpu", "--workers", "2"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("twins")


@pytest.fixture(scope="module")
def killed(home: Path) -> Path:
    """The output of a job that was killed with its workers half-way, and of the same command again."""
    command = ["embed", write_numbered(home / "a.fasta", NUMBERS), "-o", home / "a.npy", *SLOW, *CPU]
    with running(*command) as job:
        seen = wait_for_progress(home / "a.npy.holdfast", 0.3, job)
        job.kill()
        job.wait()
        pids = [pid for worker in seen["workers"] for pid in (worker["pid"], worker["child_pid"])]
        wait_for(lambda: not left_over(pids), "the workers to die with the command")
    resumed = holdfast(*command).stderr
    assert "resumed: 600 sequences (450 repeat others)" in resumed
    return home / "a.npy"


def test_a_killed_job_with_twins_ends_with_the_bytes_of_one_that_was_not(
    killed: Path, tmp_path: Path
) -> None:
    options = {"model": SLOW[1].partition(",")[0], "toks_per_batch": 512}
    undisturbed = embedded(tmp_path / "b.npy", [killed.with_name("a.fasta")], **options)
    assert killed.read_bytes() == Path(undisturbed.job.output).read_bytes()
    assert max(committed_batches(killed.with_name("a.npy.holdfast")).values()) == 1


def test_a_data_set_that_grew_computes_what_is_new(killed: Path, tmp_path: Path) -> None:
    fasta = write_numbered(tmp_path / "grown.fasta", [*range(155), 3], extra=">bad\nM4\n")
    command = ["embed", fasta, "-o", tmp_path / "grown.npy", *SLOW, *CPU, "--reuse", killed]
    shown = holdfast(*command, expect=3).stderr
    assert f"157 sequences (1 repeat others, 150 are reused from {killed})" in shown
    computed = sum(committed_batches(tmp_path / "grown.npy.holdfast").values())
    assert 0 < computed <= 0.15 * sum(committed_batches(killed.with_name("a.npy.holdfast")).values())
    vectors = np.load(tmp_path / "grown.npy")
    np.testing.assert_array_equal(vectors[:150], np.load(killed)[:150])
    np.testing.assert_array_equal(vectors[155], vectors[3])
    assert json.loads((tmp_path / "grown.npy.card.json").read_text())["counts"]["reused"] == 150
    assert "dedup: True -> False" in holdfast(*command, "--no-dedup", expect=2).stderr
