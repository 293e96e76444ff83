"""Feed a fuzzer's inputs to everything that reads bytes of a store.

    python -m benchmarks.fuzz [--seconds N]

tests/campaigns/fuzzing says what is read. The inputs that reach new places are kept in its corpus, and are
read by the tests from then on. Exit code other than 0: an error that is not documented; its input is kept
too.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.common.checkout import ROOT
from tests.campaigns.fuzzing.readers import CORPUS, seeds

LONGEST_BYTES = 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=600)
    chosen = parser.parse_args()
    CORPUS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="holdfast-fuzz-") as scratch:
        begun, found = Path(scratch, "begun"), Path(scratch, "found")
        begun.mkdir()
        found.mkdir()
        for name, data in seeds().items():
            (begun / name).write_bytes(data)
        code = fuzz(
            f"-max_total_time={chosen.seconds}", f"-max_len={LONGEST_BYTES}",
            f"-artifact_prefix={CORPUS}/", str(found), str(begun), str(CORPUS),
        )  # fmt: skip
        return code or fuzz("-merge=1", str(CORPUS), str(begun), str(found))


def fuzz(*options: str) -> int:
    """libFuzzer ends its process by itself, so it gets one of its own."""
    command = [sys.executable, "-m", "tests.campaigns.fuzzing", *options]
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
