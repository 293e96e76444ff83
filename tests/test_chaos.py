"""A short run of chaos: every fault at least once, and nothing lost, doubled, wrong, or left undone."""

from pathlib import Path

import pytest
from chaos.runner import Plan, run_chaos

SEED = 20261125
PLAN = Plan(SEED, num_jobs=6, minutes=2.5, num_workers=2, jobs_at_once=2, pause_seconds=0.8)


@pytest.mark.timeout(400)
def test_whatever_dies_every_job_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    chaos = run_chaos(PLAN, tmp_path, print)
    evidence = "\n".join(chaos.evidence())
    assert not chaos.failures(), f"seed {SEED}: {chaos.failures()}\n{evidence}"
    assert not chaos.missing(), f"seed {SEED}: these faults never struck: {chaos.missing()}"
