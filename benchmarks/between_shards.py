"""How long a device stands still between two shards: worked on beside each other, and one after the other.

    python -m benchmarks.between_shards [--model MODEL] [--records N] [--shards N] [--rounds N] [--texts]

A job of equal shards at one worker; both ways take turns, so that the machine's moods hit both. A gap is the
time from the end of the last batch of a shard, its vectors on the host, to the start of the first of the
next, as the worker's log tells it.
"""

import argparse
import os
import random
import re
import subprocess
import sys
import tempfile
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.common.checkout import command_line
from benchmarks.common.machine import describe_machine

LINE = re.compile(r"^\[(?P<at>[^:]+:\d\d:\d\d,\d+): \S+ (?P<what>computing|inference) job=", re.MULTILINE)
RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
LEAST_RESIDUES, MOST_RESIDUES, WORDS = 50, 350, 40
AHEAD, IN_TURN = "beside each other", "one after the other"
console = Console(highlight=False)


def write_records(path: Path, number: int, *, texts: bool) -> None:
    """FASTA of random proteins, or lines of random words, always the same."""
    draw = random.Random(7)
    words = ["".join(draw.choices("abcdefghijklmnoprstu", k=draw.randint(2, 9))) for _ in range(5000)]
    with path.open("w") as file:
        for index in range(number):
            if texts:
                text = " ".join(draw.choices(words, k=WORDS))
                file.write(f'{{"id": "t{index}", "text": "{text}"}}\n')
            else:
                length = draw.randint(LEAST_RESIDUES, MOST_RESIDUES)
                file.write(f">p{index}\n{''.join(draw.choices(RESIDUES, k=length))}\n")


def gaps(log: str) -> list[float]:
    """Seconds from the end of each shard's last batch to the next one's first."""
    told = [
        (found["what"], datetime.strptime(found["at"], "%Y-%m-%d %H:%M:%S,%f"))
        for found in LINE.finditer(log)
    ]
    pairs = pairwise(told)
    return [
        (began - ended).total_seconds()
        for (before, ended), (after, began) in pairs
        if (before, after) == ("inference", "computing")
    ]


def run(records: Path, model: str, home: Path, num_shards: int, *, ahead: bool) -> list[float]:
    """The gaps of one job."""
    output = home / f"out-{ahead}.npy"
    command = [
        sys.executable, "-m", "queue_app.cli.main", "embed", str(records), "-m", model, "-o", str(output),
        "--device", "cpu", "--workers", "1", "--shards", str(num_shards), "--quiet", "--overwrite",
    ]  # fmt: skip
    subprocess.run(command, check=True, env={**os.environ, "HOLDFAST_WORK_AHEAD": str(ahead)}, stdout=2)
    return gaps((Path(f"{output}.holdfast") / "logs/cpu0.log").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", default="mock:320", help="default: %(default)s, which is as wide as ESM-2 8M"
    )
    parser.add_argument("--records", type=int, default=16_384, help="of a shard (default: %(default)s)")
    parser.add_argument("--shards", type=int, default=5, help="of the job (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="of both ways in turn (default: %(default)s)")
    parser.add_argument("--texts", action="store_true", help="words instead of proteins")
    options = parser.parse_args()
    found: dict[str, list[float]] = {IN_TURN: [], AHEAD: []}
    with tempfile.TemporaryDirectory() as home:
        records = Path(home) / ("in.jsonl" if options.texts else "in.fasta")
        write_records(records, options.records * options.shards, texts=options.texts)
        for _ in range(options.rounds):
            for way, seen in found.items():
                seen += run(records, options.model, Path(home), options.shards, ahead=way == AHEAD)
    table = Table("shards are computed", "gaps", "least ms", "median ms", "most ms", title=command_line())
    for way, seen in found.items():
        table.add_row(way, str(len(seen)), *(f"{1000 * of(seen):,.0f}" for of in (min, median, max)))
    console.print(table)
    console.print(*describe_machine("cpu", threads=1), sep="\n")


if __name__ == "__main__":
    main()
