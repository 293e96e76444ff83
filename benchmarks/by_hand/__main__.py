"""The whole command beside what one would write by hand: wall time, first rows and memory.

    python -m benchmarks.by_hand [--rounds N] [--rows N] [--only SYSTEM ...] [--seed N] [--report FILE.md]

All systems embed the same texts of 75 tokens on average with the real all-MiniLM-L6-v2 in float32, on two
processors and with two threads in all. Peers run in an environment of their own, made on first use. First
each runs once while memory is sampled, which also fills the caches; then come the timed rounds, each begun
by another system. Exit code 1: somebody's vectors are not those of sentence-transformers.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.by_hand.runs import (
    BY_HAND,
    REFERENCE,
    Contestant,
    Run,
    contestants,
    least_cosine,
    missing,
    run,
)
from benchmarks.common.checkout import command_line
from benchmarks.common.tables import rows_of
from benchmarks.common.texts import draw_texts, num_tokens
from benchmarks.peers.cases import record_id
from benchmarks.peers.environment import (
    NUM_PROCESSORS,
    add_environment_option,
    find_programs,
    hold_to_processors,
)
from benchmarks.peers.report import versions
from benchmarks.peers.systems import Programs

COSINE_LEAST = 0.9999
COLUMNS = (
    "system", "x Celery by hand", "wall, s", "first batch, s", "first rows on disk, s", "all rows on disk, s",
    "memory (PSS), GB", "RSS, GB", "least cosine",
)  # fmt: skip
NOTES = f"""\
- **wall**: from the command to its exit. **x Celery by hand**: wall over that of Celery by hand in the same
  round. Medians; in brackets the least and the most.
- **first batch**: until any process has computed its first batch of more than one text, noted alike in all
  systems at the end of the encoder's pass. **first rows on disk**: until the first file of vectors was
  written; of Holdfast, until the first commit of its store. **all rows on disk**: the last file of vectors;
  what comes after is shutting down.
- **memory**: the most that all processes of a run held at one time, server included, sampled every 0.2 s in
  a run of its own that is not timed (sampling takes time from what it watches). PSS counts a page that n
  processes share as an n-th in each; the sum of RSS, beside it, counts it n times.
- **least cosine**: of all vectors of all rounds, to those of sentence-transformers; asked: {COSINE_LEAST}.
- Holdfast cuts the input, writes every row to its store with fsync, checks it, and merges all into one file;
  Celery by hand leaves a file per 250 texts; the others write one file, or one per task.
- Scripts are given one thread for each of two processes, or two for one; Holdfast divides the processors by
  itself. All are held to the same two processors."""
console = Console(highlight=False, width=None if sys.stdout.isatty() else 180)


def main() -> int:
    chosen = arguments().parse_args()
    asked = [each for each in contestants() if not chosen.only or each.key in chosen.only]
    with_peers = any(not each.system.is_ours for each in asked)
    programs = find_programs(chosen.environment if with_peers else None)
    hold_to_processors()
    absent = missing(asked, programs)
    taking_part = [each for each in asked if each not in absent]
    texts = draw_texts(chosen.rows, chosen.seed)
    with tempfile.TemporaryDirectory(prefix="by-hand-", dir=chosen.home) as scratch:
        runs = list(measure(taking_part, Path(scratch), texts, programs, chosen.rounds))
    cosines = cosines_of(runs)
    table = table_of(taking_part, runs, cosines)
    console.print(table)
    if chosen.report:
        chosen.report.parent.mkdir(parents=True, exist_ok=True)
        about = about_of(chosen, texts, programs.model)
        chosen.report.write_text(as_markdown(table, about, taking_part, absent, runs))
    wrong = [key for key, cosine in cosines.items() if cosine < COSINE_LEAST]
    for key in wrong:
        console.print(f"[bold red]WRONG[/] {key}: cosine {cosines[key]:.6f} to {REFERENCE}")
    return bool(wrong)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    keys = [each.key for each in contestants()]
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--only", nargs="+", choices=keys, metavar="SYSTEM", help=f"of {', '.join(keys)}")
    parser.add_argument("--seed", type=int, default=1, help="draws the texts (%(default)s)")
    parser.add_argument("--home", type=Path, help="the directory to work in")
    parser.add_argument("--report", type=Path, help="write the outcome there, as markdown")
    add_environment_option(parser)
    return parser


def measure(
    taking_part: Sequence[Contestant], home: Path, texts: Sequence[str], programs: Programs, rounds: int
) -> Iterator[Run]:
    """First a round whose memory is sampled, then the timed ones, each begun by the next system."""
    rows = [{"id": record_id(ordinal), "text": text} for ordinal, text in enumerate(texts)]
    source = "".join(json.dumps(row) + "\n" for row in rows)
    for number in range(rounds + 1):
        shift = number % len(taking_part)
        for contestant in (*taking_part[shift:], *taking_part[:shift]):
            where = home / f"{number}-{contestant.key}"
            made = run(contestant, where, source, programs, number=number, sampled=number == 0)
            console.print(f"{made.line()}")
            shutil.rmtree(where)
            yield made


def cosines_of(runs: Sequence[Run]) -> dict[str, float]:
    """Of each system the least cosine of all its runs to the first of the reference."""
    reference = next((run.rows for run in runs if run.key == REFERENCE), runs[0].rows)
    cosines: dict[str, float] = {}
    for each in runs:
        cosines[each.key] = min(cosines.get(each.key, 1.0), least_cosine(each.rows, reference))
    return cosines


# ---- the table


def table_of(taking_part: Sequence[Contestant], runs: Sequence[Run], cosines: dict[str, float]) -> Table:
    table = Table(title="The whole command")
    for number, column in enumerate(COLUMNS):
        table.add_column(column, justify="right" if number else "left")
    for contestant in taking_part:
        table.add_row(contestant.title, *cells_of(contestant.key, runs, cosines[contestant.key]))
    return table


def cells_of(key: str, runs: Sequence[Run], cosine: float) -> Iterator[str]:
    own = [run for run in runs if run.key == key and run.memory is None]
    yield span(ratios(key, runs), 2)
    yield span([run.wall for run in own], 1)
    yield span([run.first_batch for run in own], 1)
    yield span([run.first_rows for run in own], 1)
    yield span([run.all_rows for run in own], 1)
    memory = next(run.memory for run in runs if run.key == key and run.memory is not None)
    yield f"{memory.pss / 1e9:.2f}"
    yield f"{memory.rss / 1e9:.2f}"
    yield f"{cosine:.6f}"


def ratios(key: str, runs: Sequence[Run]) -> list[float]:
    """Wall time over that of Celery by hand, round by round; none without it."""
    by_hand = {run.number: run.wall for run in runs if run.key == BY_HAND and run.memory is None}
    own = {run.number: run.wall for run in runs if run.key == key and run.memory is None}
    return [wall / by_hand[number] for number, wall in own.items() if number in by_hand]


def span(values: Sequence[float], digits: int) -> str:
    if not values:
        return "-"
    middle, *ends = (f"{value:.{digits}f}" for value in (median(values), min(values), max(values)))
    return f"{middle} ({ends[0]} to {ends[1]})" if len(values) > 1 else middle


# ---- the report


def about_of(chosen: argparse.Namespace, texts: Sequence[str], model: Path) -> list[str]:
    lengths = num_tokens(texts, model)
    middle = sorted(lengths)[len(lengths) // 2]
    mean = sum(lengths) / len(lengths)
    return [
        f"- {chosen.rows:,} texts, seed {chosen.seed}; {chosen.rounds} timed rounds",
        f"- tokens of a text: {mean:.1f} on average, median {middle}, most {max(lengths)}",
        f"- {NUM_PROCESSORS} processors; all-MiniLM-L6-v2 in float32",
        f"- versions: {', '.join(versions())}",
    ]


def as_markdown(
    table: Table,
    about: Sequence[str],
    taking_part: Sequence[Contestant],
    absent: Sequence[Contestant],
    runs: Sequence[Run],
) -> str:
    return "\n".join(
        [
            "# The whole command, beside what one would write by hand", "", f"`{command_line()}`", "", *about,
            *(f"- {each.title}: `{each.shown}`" for each in taking_part),
            *(f"- {each.title}: left out, {each.package} is not installed" for each in absent), "",
            *rows_of(table), "", NOTES, "", "## Run by run", "", *(f"- {run.line()}" for run in runs), "",
        ]
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
