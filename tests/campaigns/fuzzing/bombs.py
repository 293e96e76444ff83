"""Inputs of half a gigabyte that are small on disk: what the reader makes of each, in how much memory.

    python -m tests.campaigns.fuzzing.bombs [--mib N] [NAME ...]

Exit code other than 0: one of them took more than 512 MiB, ended the process, or showed a traceback.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.support.bombs import BOMBS, write_bomb
from tests.support.measured_reader import measure

MIB_MOST = 512


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("names", nargs="*", default=list(BOMBS))
    chosen = parser.parse_args()
    is_within = True
    for name in chosen.names:
        with tempfile.TemporaryDirectory(prefix="holdfast-bomb-") as home:
            path, before = write_bomb(name, chosen.mib, Path(home)), time.monotonic()
            seen = measure(path, Path(home))
            seconds, packed = time.monotonic() - before, path.stat().st_size >> 10
        outcome = seen.error or f"{seen.num_records:,} records, {seen.num_quarantined:,} of them quarantined"
        print(
            f"{name:20} {packed:5} kB  {seen.peak_mib:4} MiB  {seconds:5.1f} s  {outcome.replace(home, '')}",
            flush=True,
        )
        is_within = is_within and seen.peak_mib <= MIB_MOST
    return 0 if is_within else 1


if __name__ == "__main__":
    sys.exit(main())
