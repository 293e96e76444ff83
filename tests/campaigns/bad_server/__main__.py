"""`python -m tests.campaigns.bad_server --messages 2000 --values 292`: a table, and 1 where a promise broke.

`--seed` repeats a run. Each campaign is a module with `campaign(folder, number, seed)`, and answers a Report.
"""

import argparse
import importlib
import sys
import tempfile
from pathlib import Path

from tests.campaigns.bad_server.harness import Report

CAMPAIGNS = ("messages", "values")
"""Each is an option, and the name of the module beside this one."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.bad_server", description=__doc__)
    for name in CAMPAIGNS:
        parser.add_argument(
            f"--{name}", type=int, default=0, metavar="N", help=f"write so many hostile {name}"
        )
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    is_broken = False
    for name in CAMPAIGNS:
        if number := getattr(chosen, name):
            module = importlib.import_module(f"tests.campaigns.bad_server.{name}")
            with tempfile.TemporaryDirectory(prefix="bad-server-") as folder:
                report: Report = module.campaign(Path(folder), number, chosen.seed)
            print(report.text(name))
            is_broken |= bool(report.broken)
    return int(is_broken)


if __name__ == "__main__":
    sys.exit(main())
