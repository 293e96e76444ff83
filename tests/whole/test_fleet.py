"""A short run of the fleet campaign: real workers on hosts that are namespaces of this machine.

In a process of its own, which takes the namespaces; everything in them ends with it.
"""

import os
import sys
from pathlib import Path

import pytest

from queue_app.host.processes import spawn, stop
from tests.campaigns.fleet.namespaces import why_no_hosts
from tests.support import ROOT

REASON = why_no_hosts()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))


@pytest.mark.timeout(300)
def test_a_holder_that_was_cut_off_changes_nothing_of_what_was_exported_without_it(tmp_path: Path) -> None:
    campaign(tmp_path, "--only", "undisturbed", "cut_off_holders", "--rounds", "4")


@pytest.mark.timeout(300)
def test_whatever_befalls_the_hosts_every_job_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    campaign(tmp_path, "--chaos", "--faults", "8", "--seed", "17")


def campaign(tmp_path: Path, *options: str) -> None:
    """Run it; whatever is not as promised makes it fail."""
    env = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    log = tmp_path / "fleet.log"
    run = spawn([sys.executable, "-m", "benchmarks.fleet", *options], log=log, env=env)
    try:
        assert run.wait(280) == 0, log.read_text()
    finally:
        stop(run, grace_seconds=0)
    print(log.read_text())
