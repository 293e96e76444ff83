"""The tests that want a device, in their own words."""

import subprocess
import sys
from collections.abc import Iterator

from benchmarks.gpu.check import Check, Found, of_checkout
from tests.support import ROOT

SECONDS = 170


def run(check: Check) -> Iterator[Found]:
    marked = sorted(
        str(path) for path in (ROOT / "tests").rglob("test_*.py") if "mark.gpu" in path.read_text()
    )
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "--tb=short"]
    # Rehearsed is that they can be asked for: of one file, and without what all tests have in common.
    command += ["--collect-only", "--noconftest", marked[-1]] if check.is_rehearsal else marked
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=SECONDS, check=False, cwd=ROOT,
        env=of_checkout(check.home),
    )  # fmt: skip
    yield Found("pytest -m gpu", {"exit status": ended.returncode, "files": len(marked)})
    for line in ended.stdout.strip().splitlines()[-12:]:
        yield Found(line)
