"""Damage stores in every way and see that nothing passes for sound that is not, and that nobody dies of it.

    python -m benchmarks.corruption [--damages N] [--seed N]

tests/campaigns/corruption says how stores are damaged and judged. A column for each way in which damage
shows; "broken" counts those after which a new owner did not get back the very same store. Exit code 1:
something was not detected, a sound store was called damaged, or something was broken.
"""

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from tests.campaigns.corruption.campaign import Summary, run
from tests.campaigns.corruption.judge import Outcome

FINDINGS_SHOWN = 20

console = Console(highlight=False, width=None if sys.stdout.isatty() else 170)


def main() -> int:
    chosen = arguments().parse_args()
    summary = run(chosen.damages, chosen.seed)
    console.print(table_of(summary))
    console.print(
        f"{summary.damages:,} damages, seed {chosen.seed}, {summary.seconds:.0f} s; "
        f"{summary.false_alarms} false alarms on {summary.sound_stores} sound stores"
    )
    for finding in summary.findings[:FINDINGS_SHOWN]:
        console.print(f"FAILED {finding}", markup=False)
    return 0 if summary.good else 1


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--damages", type=int, default=10_000, help="over all kinds and shapes")
    parser.add_argument("--seed", type=int, default=1)
    return parser


def table_of(summary: Summary) -> Table:
    table = Table("damage", "times", *(outcome.value for outcome in Outcome), "broken")
    for kind, counts in summary.outcomes.items():
        each = [counts.get(outcome.value, 0) for outcome in Outcome]
        add_row(table, kind, [sum(each), *each, summary.broken.get(kind, 0)])
    totals = [summary.count(outcome) for outcome in Outcome]
    table.add_section()
    add_row(table, "all", [sum(totals), *totals, sum(summary.broken.values())])
    return table


def add_row(table: Table, label: str, counts: Sequence[int]) -> None:
    table.add_row(label, *(f"{count:,}" for count in counts))


if __name__ == "__main__":
    sys.exit(main())
