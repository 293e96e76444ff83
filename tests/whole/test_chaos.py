"""A short run of chaos: every fault at least once, and nothing lost, doubled, wrong, or left undone.

In a process of its own, which can take a mount namespace for its small disk.
"""

import os
import sys
from pathlib import Path

import pytest

from queue_app.host.processes import spawn, stop
from tests.support import ROOT

PLAN = {"--seed": 20261125, "--jobs": 6, "--minutes": 5, "--workers": 3, "--at-once": 3, "--pause": 0.9}


@pytest.mark.timeout(600)
def test_whatever_dies_every_job_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    options = ["--untimed", *(str(word) for option in PLAN.items() for word in option)]
    env = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    log = tmp_path / "chaos.log"
    run = spawn([sys.executable, "-m", "benchmarks.chaos", *options], log=log, env=env)
    try:
        assert run.wait(580) == 0, log.read_text()
    finally:
        stop(run, grace_seconds=0)
    print(log.read_text())
