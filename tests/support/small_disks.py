"""A small disk of the test's own, to fill it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.command_runs import environment


def small_disk(home: Path, size: str, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script where `small/` is a file system of its own, seen by it alone."""
    (home / "small").mkdir()
    mount = f"mount -t tmpfs -o size={size} tmpfs small && exec bash -c {script!r}"
    command = ["unshare", "--user", "--map-root-user", "--mount", "bash", "-c", mount]
    env = environment(PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=150, env=env)


def can_mount() -> bool:
    probe = ["unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return shutil.which("unshare") is not None and subprocess.run(probe, capture_output=True).returncode == 0
