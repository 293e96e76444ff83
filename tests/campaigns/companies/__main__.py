"""`python -m tests.campaigns.companies --companies 1000`: a table, and 1 where a vector had other bits.

For each family, dtype and number of threads so many random companies. `--seed` repeats a run; `--family`,
`--dtype` and `--threads` name some of them.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.campaigns.companies.campaign import campaign
from tests.campaigns.companies.models import FAMILIES

DTYPES = ("float32", "bfloat16", "float16")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.companies", description=__doc__)
    parser.add_argument("--companies", type=int, default=100, metavar="N")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--family", nargs="+", choices=FAMILIES, default=[*FAMILIES])
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, default=[*DTYPES])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--no-exact", action="store_true", help="what happens without")
    asked = parser.parse_args()
    broken = 0
    print(
        "| family | dtype | threads | companies | other bits | seconds |",
        "|---|---|---|---|---|---|",
        sep="\n",
    )
    with tempfile.TemporaryDirectory(prefix="companies-") as folder:
        for name in asked.family:
            kind = FAMILIES[name]
            path = kind.save(Path(folder) / name)
            for dtype in asked.dtype:
                for threads in asked.threads:
                    began = time.monotonic()
                    report = campaign(
                        path, kind, dtype, threads, asked.companies, asked.seed, exact=not asked.no_exact
                    )
                    broken += len(report.differing)
                    row = (name, dtype, threads, report.num_companies, len(report.differing))
                    seconds = time.monotonic() - began
                    print("|", " | ".join(map(str, row)), f"| {seconds:.0f} |", flush=True)
                    if report.differing:
                        print(f"  of {sorted(set(report.differing))} tokens", file=sys.stderr)
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
