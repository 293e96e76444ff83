"""Hold Holdfast beside its peers while workers are killed and records are bad.

    python -m benchmarks.peers [--only SYSTEM ...] [--only-case WORDS ...] [--points N] [--rows N]
                               [--seed N] [--report FILE.md] [--keep DIR]

All systems embed the same texts with the real all-MiniLM-L6-v2 on two processes of one thread each. The
peers run in an environment of their own, made on first use. Holdfast is put to every case at N random
points, each peer once. With --keep what was measured is kept in DIR and not measured
again. Exit code 1: Holdfast broke a promise.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console

from benchmarks.common.checkout import command_line
from benchmarks.peers.cases import Case, Point, draw_points, make_texts
from benchmarks.peers.environment import add_environment_option, find_programs, hold_to_processors
from benchmarks.peers.outcome import Outcome, judge
from benchmarks.peers.report import as_markdown, as_table
from benchmarks.peers.systems import SYSTEMS, Programs, System
from benchmarks.peers.trial import Trial

PEER_SHARE = 0.6
console = Console(highlight=False, width=None if sys.stdout.isatty() else 180)


def main() -> int:
    chosen = arguments().parse_args()
    systems = [system for system in SYSTEMS if not chosen.only or system.key in chosen.only]
    cases = [case for case in Case if matches(case, chosen.only_case)]
    with_peers = any(not system.is_ours for system in systems)
    programs = find_programs(chosen.environment if with_peers else None)
    hold_to_processors()
    home = chosen.keep or Path(tempfile.mkdtemp(prefix="peers-"))
    home.mkdir(parents=True, exist_ok=True)
    bench = Bench(home, programs, make_texts(chosen.rows, chosen.seed), chosen.patience)
    points = draw_points(chosen.seed, chosen.points, chosen.rows)
    for system in systems:
        for case in cases:
            if case in system.cases:
                for point in points_of(system, case, points):
                    bench.measure(system, case, point)
    outcomes = bench.outcomes()
    console.print(as_table(outcomes))
    if chosen.report:
        chosen.report.parent.mkdir(parents=True, exist_ok=True)
        report = as_markdown(outcomes, command=command_line(), seed=chosen.seed, patience=chosen.patience)
        chosen.report.write_text(report)
    broken = [line for outcome in outcomes if outcome.system == "holdfast" for line in outcome.broken()]
    for line in broken:
        console.print(f"[bold red]BROKEN[/] {line}")
    return bool(broken)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    keys = [system.key for system in SYSTEMS]
    parser.add_argument("--only", nargs="+", choices=keys, metavar="SYSTEM", help=f"of {', '.join(keys)}")
    parser.add_argument("--only-case", nargs="+", default=[], metavar="WORDS", help="by part of the name")
    parser.add_argument("--points", type=int, default=5, help="random points for Holdfast (%(default)s)")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1, help="draws texts and points (%(default)s)")
    parser.add_argument("--patience", type=float, default=120.0, help="seconds without a new row: stuck")
    parser.add_argument("--report", type=Path, help="write the outcome there, as markdown")
    parser.add_argument("--keep", type=Path, help="keep outcomes and directories there, go on from them")
    add_environment_option(parser)
    return parser


def points_of(system: System, case: Case, points: list[Point]) -> list[Point]:
    """A peer is killed once, where tasks of 250 rows are under way: at the half, two have just ended."""
    if not system.is_ours:
        return [replace(points[0], share=PEER_SHARE)]
    return points[:1] if case is Case.CALM else points


def matches(case: Case, parts: list[str]) -> bool:
    """The undisturbed run is always needed: the others are held against it."""
    return case is Case.CALM or not parts or any(part in case for part in parts)


class Bench:
    """Measures, and remembers in `home` what was measured."""

    def __init__(self, home: Path, programs: Programs, texts: list[str], patience: float) -> None:
        self.home = home.resolve()
        self.programs = programs
        self.texts = texts
        self.patience = patience
        self.kept = self.home / "outcomes.jsonl"

    def measure(self, system: System, case: Case, point: Point) -> None:
        known = {(outcome.system, outcome.case, outcome.point) for outcome in self.outcomes()}
        if (system.key, case, point.number) in known:
            return
        home = self._home(system.key, case, point.number)
        if home.exists():
            home.rename(self.home / f"interrupted-{home.name}-{len(list(self.home.iterdir()))}")
        trial = Trial(system, case, point, home, self.texts, self.programs, self.patience)
        trial.run()
        outcome = judge(trial, self._home(system.like or system.key, Case.CALM, 1))
        with self.kept.open("a") as file:
            file.write(json.dumps(asdict(outcome)) + "\n")
        console.print(
            f"{system.title}: {case} {outcome.where}: {outcome.ending}, exit {outcome.exit_code}, "
            f"{outcome.saved} saved, {outcome.again} again, {outcome.changed} changed, "
            f"{outcome.seconds:.0f} s"
        )

    def outcomes(self) -> list[Outcome]:
        lines = self.kept.read_text().splitlines() if self.kept.exists() else []
        return [Outcome(**{**fields, "case": Case(fields["case"])}) for fields in map(json.loads, lines)]

    def _home(self, system: str, case: Case, number: int) -> Path:
        return self.home / f"{system}-{case.name.lower()}-{number}"


if __name__ == "__main__":
    sys.exit(main())
