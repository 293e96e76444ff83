"""Power loss, simulated from recorded writes: tests.campaigns.power_loss says what may happen to them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.campaigns.power_loss.campaign import SHARD, Part, judge, record_shard, record_store
from tests.campaigns.power_loss.disk import LOCK_FILE, without_crash
from tests.campaigns.power_loss.operations import Recording
from tests.campaigns.power_loss.shapes import SHAPES
from tests.support import ROOT

SEED = 20261126
IMAGES = 17
"""Of each of the six shapes: 102 in all. benchmarks/power_loss.py takes 1,500."""
SMALL = "4 KiB blocks"
REUSING = "256 KiB blocks, dropped and computed again"


@pytest.fixture(scope="module", autouse=True)
def _traceable() -> None:
    """Tracing needs ptrace, which some machines and containers do not permit."""
    ask = "from tests.campaigns.power_loss.tracer import why_not; print(why_not() or '')"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, env=env, check=True)
    if reason := ended.stdout.strip():
        pytest.skip(f"no recording of writes: {reason}")


@pytest.mark.parametrize("shape", SHAPES)
def test_every_acknowledged_commit_survives_a_power_loss_whole(tmp_path: Path, shape: str) -> None:
    recording = record_store(tmp_path, shape)
    summary = judge(recording, shape, images=IMAGES, seed=SEED)
    assert summary.good, summary.findings
    assert summary.checked


def test_a_power_loss_at_the_first_opening_leaves_a_store_that_opens(tmp_path: Path) -> None:
    summary = judge(record_store(tmp_path, SMALL), SMALL, images=30, seed=SEED, part=Part.OPENING)
    assert summary.good, summary.findings


def test_whatever_names_a_result_after_a_power_loss_names_a_whole_one(tmp_path: Path) -> None:
    summary = judge(record_shard(tmp_path), SHARD, images=30, seed=SEED, part=Part.ENDING)
    assert summary.good, summary.findings


# ---- the simulation sees what is missing


@pytest.mark.parametrize("without", ["sync", "metasync"])
def test_a_store_without_its_syncs_is_found_to_lose_commits(tmp_path: Path, without: str) -> None:
    recording = record_store(tmp_path, SMALL, without=[without])
    summary = judge(recording, SMALL, images=IMAGES, seed=SEED, part=Part.OPEN)
    assert summary.lost + summary.damaged


def test_a_publisher_without_fsync_is_found_out(tmp_path: Path) -> None:
    recording = record_shard(tmp_path, without=["fsync"])
    assert judge(recording, SHARD, images=10, seed=SEED, part=Part.ENDING).broken


def test_the_record_misses_nothing_that_was_written(tmp_path: Path) -> None:
    """Replayed without a crash it gives the very files that the writer left."""
    recording = Recording.load(record_store(tmp_path, REUSING))
    left = {
        str(path.relative_to(tmp_path / "checkpoints")): path.read_bytes()
        for path in (tmp_path / "checkpoints").rglob("*")
        if path.is_file() and path.name != LOCK_FILE  # written through a map, and made anew after a crash
    }
    assert left == {
        name: content for name, content in without_crash(recording).items() if LOCK_FILE not in name
    }
