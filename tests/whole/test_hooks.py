"""What campaigns and benchmarks hook into while a process starts is there, by its name."""

import os
import subprocess
import sys

import pytest

from tests.campaigns.chaos.stage import KILL_POINTS
from tests.support import ROOT

HOOKS = {
    "CHAOS_KILL_POINTS": KILL_POINTS,
    "FLEET_GATES": ROOT / "tests/campaigns/fleet/hooks",
    "PEERS_LOG": ROOT / "benchmarks/peers/hooks",
    "BY_HAND_LOG": ROOT / "benchmarks/by_hand/hooks",
}
IMPORT_ALL = """
import importlib, sitecustomize
for name in sitecustomize.AFTER_IMPORT:
    importlib.import_module(name)
print(len(sitecustomize.AFTER_IMPORT))
"""


@pytest.mark.parametrize("switch", HOOKS)
def test_every_module_that_is_hooked_into_can_be_imported_and_changed(switch: str) -> None:
    env = {**os.environ, switch: "/nowhere", "PYTHONPATH": f"{HOOKS[switch]}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-c", IMPORT_ALL]
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) >= 2
