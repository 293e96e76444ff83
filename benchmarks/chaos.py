"""Break everything that can break, at random, and hold every job against a run that nothing happened to.

    python -m benchmarks.chaos [--seed N] [--jobs N] [--kills N] [--zombies N] [--minutes M] [--model M]
                               [--defaults] [--report FILE.md [--append]]
    python -m benchmarks.chaos --alone      every fault once, by itself, on a job of its own

Several real workers serve many jobs on a real server, while processes are killed and stopped, the server
loses its data, connections break and messages are lost, doubled and forged. The faults live in
tests/campaigns/chaos. The same seed draws the same faults in the same order; when exactly each one strikes
is the machine's doing. Where it may, the run takes a mount namespace of its own first, in which a small disk
can be full. Exit code 1: something was lost, doubled, wrong, committed twice, repeated beyond what is
promised, or never ended; or a fault never struck.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from benchmarks.common.checkout import command_line
from tests.campaigns.chaos.machine import NAMESPACE, UNSHARE, can_unshare
from tests.campaigns.chaos.pace import DEFAULTS, QUICK
from tests.campaigns.chaos.report import NOTE, as_markdown, as_table, totals
from tests.campaigns.chaos.runner import Chaos, Plan, run_chaos

console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)


def main() -> None:
    chosen = arguments().parse_args()
    if NAMESPACE not in os.environ and can_unshare():
        os.environ[NAMESPACE] = "1"
        os.execvp(UNSHARE[0], [*UNSHARE, sys.executable, *sys.orig_argv[1:]])
    plan = Plan(
        seed=chosen.seed,
        num_jobs=chosen.jobs,
        minutes=chosen.minutes,
        kills=chosen.kills,
        zombies=chosen.zombies,
        model=chosen.model,
        pace=DEFAULTS if chosen.defaults else QUICK,
        num_workers=chosen.workers,
        jobs_at_once=chosen.at_once,
        pause_seconds=chosen.pause,
        alone=chosen.alone,
        without=tuple(chosen.without),
        only=tuple(chosen.only),
        timed=not chosen.untimed,
    )
    home = Path(tempfile.mkdtemp(prefix="holdfast-chaos-"))
    console.print(f"seed {plan.seed}, everything of this run lies in {home}")
    chaos = run_chaos(plan, home, say)
    show(chaos)
    if chosen.report:
        write_report(chaos, chosen.report, append=chosen.append)
    sys.exit(bool(chaos.failures() or chaos.missing()))


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=int(time.time()), help="draws faults (default: the time)")
    parser.add_argument("--jobs", type=int, default=20, help="at least so many jobs")
    parser.add_argument("--kills", type=int, default=0, help="at least so many process kills")
    parser.add_argument("--zombies", type=int, default=0, help="at least so many processes stopped")
    parser.add_argument("--minutes", type=float, default=10, help="no fault strikes after so long")
    parser.add_argument("--model", default="mock:16,delay_ms=40", help="default: %(default)s")
    parser.add_argument("--defaults", action="store_true", help="leases and commits as users have them")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--at-once", type=int, default=3, help="so many jobs at a time")
    parser.add_argument("--pause", type=float, default=1.2, help="mean seconds between two faults")
    parser.add_argument("--alone", action="store_true", help="every fault once, by itself, on its own job")
    parser.add_argument("--without", nargs="*", default=[], help="faults to leave out, by part of the name")
    parser.add_argument("--only", nargs="*", default=[], help="faults to strike with, by part of the name")
    parser.add_argument("--report", type=Path, help="write the summary there, as markdown")
    parser.add_argument("--untimed", action="store_true", help="do not judge how long work was repeated")
    parser.add_argument("--append", action="store_true", help="to what that file holds already")
    return parser


def write_report(chaos: Chaos, path: Path, *, append: bool) -> None:
    """One section per run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.read_text() if append and path.exists() else "# Chaos\n"
    path.write_text(f"{before}\n{as_markdown(chaos, command_line())}")


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def show(chaos: Chaos) -> None:
    console.print(as_table(chaos))
    console.print(NOTE)
    for name, value in totals(chaos):
        console.print(f"{name}: {value}")
    for failure in chaos.failures():
        console.print(f"FAILED {failure}")
    for fault in chaos.missing():
        console.print(f"NEVER STRUCK {fault}")
    for line in chaos.evidence():
        print(line)


if __name__ == "__main__":
    main()
