"""Feed a fuzzer's inputs to everything that reads bytes of a store.

    python benchmarks/fuzz.py [--seconds N]

tests/fuzzing says what is read. The inputs that reach new places are kept in tests/data/fuzz, and are read
by the tests from then on. Exit code other than 0: an error that is not documented; its input is kept too.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.campaigns.fuzzing.readers import CORPUS, seeds
from tests.support import ROOT, TESTS

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
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, TESTS)))}
    return subprocess.run([sys.executable, "-m", "fuzzing", *options], env=env, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
