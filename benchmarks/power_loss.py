"""Build the disks that a power loss may leave of real writers, and see that nothing acknowledged is gone.

    python -m benchmarks.power_loss [--images N] [--seed N] [--names strict|journaled]

Each writer is recorded once, then crashed at random moments; tests/campaigns/power_loss says what a crash may
do. The last rows are writers with their syncs switched off: they have to lose, or the simulation sees
nothing. Exit code 1: something acknowledged was lost or damaged, another promise was broken, or the blind
were good.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.campaigns.power_loss.campaign import SHARD, Summary, judge, record_shard, record_store
from tests.campaigns.power_loss.disk import Names
from tests.campaigns.power_loss.shapes import SHAPES

IMAGES_OF_A_SHARD = 200
IMAGES_OF_THE_BLIND = 50
SWITCHED_OFF = ("sync", "metasync")
FINDINGS_SHOWN = 5

console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)


def main() -> int:
    chosen = arguments().parse_args()
    names = Names[chosen.names.upper()]
    table = Table("writer", "images", "acknowledged batches checked", "lost", "damaged", "broken", "seconds")
    each = -(-chosen.images // len(SHAPES))
    sound = [of_store(shape, each, chosen.seed, names) for shape in SHAPES]
    sound.append(of_shard(chosen.seed, names))
    for summary in sound:
        add_row(table, summary.subject, summary)
    blind = {without: of_blind(without, chosen.seed, names) for without in SWITCHED_OFF}
    for without, summary in blind.items():
        add_row(table, f"without {without}, has to lose", summary)
    console.print(f"seed {chosen.seed}; names are durable {names.value}")
    console.print(table)
    for summary in sound:
        for finding in summary.findings[:FINDINGS_SHOWN]:
            console.print(f"FAILED {summary.subject}, operation {finding}")
    seeing = all(summary.lost for summary in blind.values())
    return 0 if seeing and all(summary.good for summary in sound) else 1


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1500, help="of stores, over all shapes (default: 1500)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--names", choices=[names.name.lower() for names in Names], default="strict")
    return parser


def of_store(shape: str, images: int, seed: int, names: Names, without: Sequence[str] = ()) -> Summary:
    with tempfile.TemporaryDirectory(prefix="holdfast-power-loss-") as home:
        recording = record_store(Path(home), shape, without=without)
        return judge(recording, shape, images=images, seed=seed, names=names)


def of_shard(seed: int, names: Names) -> Summary:
    with tempfile.TemporaryDirectory(prefix="holdfast-power-loss-") as home:
        return judge(record_shard(Path(home)), SHARD, images=IMAGES_OF_A_SHARD, seed=seed, names=names)


def of_blind(without: str, seed: int, names: Names) -> Summary:
    return of_store(next(iter(SHAPES)), IMAGES_OF_THE_BLIND, seed, names, [without])


def add_row(table: Table, label: str, summary: Summary) -> None:
    counts = (summary.images, summary.checked, summary.lost, summary.damaged, summary.broken)
    table.add_row(label, *(f"{count:,}" for count in counts), f"{summary.seconds:.0f}")


if __name__ == "__main__":
    sys.exit(main())
