"""Hosts of one fleet as namespaces of this machine: what each scenario costs, beside what is promised.

    python -m benchmarks.fleet [--only SCENARIO...] [--json FILE] [--report FILE.md] [--keep]
    python -m benchmarks.fleet --chaos [--faults N] [--seed N]

The scenarios and hosts live in tests/campaigns/fleet. Exit code 1: a promise was broken. Without the right to
namespaces it says so and ends with 1 as well.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from tests.campaigns.fleet.chaos import chaos_over_hosts
from tests.campaigns.fleet.figures import Figure, as_markdown, as_table
from tests.campaigns.fleet.fleet import Campaign
from tests.campaigns.fleet.namespaces import Network, enter_namespaces
from tests.campaigns.fleet.scenarios import SCENARIOS

console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)


def main() -> None:
    chosen = arguments().parse_args()
    enter_namespaces()
    home = Path(tempfile.mkdtemp(prefix="holdfast-fleet-"))
    say(f"everything of this run lies in {home}")
    network = Network()
    network.start()
    campaign = Campaign(home, network, say, chosen.rounds)
    if chosen.chaos:
        figures = list(chaos_over_hosts(campaign, chosen.faults, chosen.seed))
    else:
        figures = list(run(campaign, chosen.only))
    console.print(as_table(figures))
    if chosen.json:
        chosen.json.write_text(json.dumps([figure.as_json() for figure in figures], indent=1))
    if chosen.report:
        chosen.report.write_text(f"# A fleet of pretended hosts\n\n{as_markdown(figures)}\n")
    good = all(figure.good for figure in figures)
    if good and not chosen.keep:
        shutil.rmtree(home)
    sys.exit(not good)


def run(campaign: Campaign, only: Sequence[str]) -> Iterator[Figure]:
    """The chosen scenarios, or all."""
    for name, scenario in SCENARIOS.items():
        if not only or name in only:
            say(name.replace("_", " "))
            for figure in scenario(campaign):
                say(f"{figure.scenario}: {figure.found}")
                yield figure


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=[], choices=SCENARIOS, help="so many of the scenarios")
    parser.add_argument("--rounds", type=int, default=50, help="of cut off holders (default: %(default)s)")
    parser.add_argument("--chaos", action="store_true", help="strike three hosts at random instead")
    parser.add_argument("--faults", type=int, default=300, help="so many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="draws them (default: the time)")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--report", type=Path, help="write the table there, as markdown")
    parser.add_argument("--keep", action="store_true", help="keep the run's directory, as after a failure")
    return parser


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


if __name__ == "__main__":
    main()
