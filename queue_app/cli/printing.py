"""What the commands print, and the exit codes that go with it. Results to stdout, all else to stderr."""

import json
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from queue_app.choices import ALLOW_QUARANTINE
from queue_app.errors import UsageError
from queue_app.shown import shell_word, visible_lines

if TYPE_CHECKING:
    from queue_app.job.directory import JobDir
    from queue_app.outputs.export import ExportReport
    from queue_app.status.allowance import Allowance

QUARANTINED = 3
DAMAGED = 4
INTERRUPTED = 130
COMMAND_MOST = 400
"""In letters: a longer command, of a pattern that the shell has expanded, is not for a screen."""


def say(text: str) -> None:
    """One line for the user, beside the result."""
    print(visible_lines(text), file=sys.stderr)


def tell(text: str) -> None:
    """One line of the result."""
    print(visible_lines(text), flush=True)


def print_json(answer: Any) -> None:
    print(json.dumps(answer))


def print_answer(as_json: bool, answer: Any, lines: Iterable[str], *, coloured: bool = False) -> None:
    """What a command found out, for a program or in lines for people; `coloured` ones can be seen already."""
    if as_json:
        print_json(answer)
        return
    for line in lines:
        typer.echo(line if coloured else visible_lines(line))  # without colours where it is no terminal


def print_state(job_id: str, state: str) -> None:
    tell(f"job {job_id}: {state}")


def print_report(report: "ExportReport", as_json: bool, allowed: "Allowance", *, quiet: bool = False) -> None:
    """Ends with 3 where more records than are allowed are quarantined."""
    from queue_app.status.summary import print_summary

    if as_json:
        print_json(_as_json(report))
    else:
        print_summary(report, quiet=quiet)
    end_with_quarantine(report.num_quarantined, report.num_records, allowed)


def end_with_quarantine(num_quarantined: int, num_records: int, allowed: "Allowance") -> None:
    """Ends with 3 where more records than are allowed are in quarantine."""
    if not allowed.covers(num_quarantined, num_records):
        if allowed.num_records != 0:  # as without the option
            say(f"{num_quarantined:,} records are quarantined, more than {ALLOW_QUARANTINE} allows")
        raise typer.Exit(QUARANTINED)


def _as_json(report: "ExportReport") -> dict[str, Any]:
    from queue_app.job.output_names import card_paths

    return {
        "output": str(report.output),
        "records": report.num_records,
        "embedded": report.num_embedded,
        "quarantined": report.num_quarantined,
        "digest": report.output_digest,
        "card": str(card_paths(report.output)[1]),
    }


def watched(job: str | None, broker: str | None, as_json: bool, allowed: "Allowance") -> int:
    """Show one job until it has ended; answers its exit code. Raises UsageError when it cannot."""
    from queue_app.status.screens import open_view
    from queue_app.status.watch import exit_code, watch

    if job is None or as_json:
        raise UsageError("--watch shows one job on a screen: name the job, and leave out --json")
    with open_view(quiet=False, stream=sys.stdout, timed=False) as view:
        return exit_code(watch(job, broker, view), allowed)


@contextmanager
def resumable(job_dir: "JobDir", named: Path) -> Iterator[None]:
    """Ctrl-C and SIGTERM (a spot notice) end a run in order; say how to go on with the job, which the user
    has `named` so."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        stands = named if job_dir.job_json.exists() else None
        say(f"interrupted; what is done is committed. To go on: {how_to_go_on(sys.argv[1:], stands)}")
        raise typer.Exit(INTERRUPTED) from None


def how_to_go_on(arguments: Sequence[str], stands: Path | None) -> str:
    """The same command; a shorter one where it is long, or has inputs that cannot be read twice, and the job
    `stands`. What may hold a server's password is not repeated."""
    command = " ".join(map(shell_word, ["holdfast", *arguments]))
    if "://" in command:
        return "the same command again"
    is_once = any(word == "-" or word.startswith(("/dev/fd/", "/proc/self/fd/")) for word in arguments)
    if stands is not None and (is_once or len(command) > COMMAND_MOST):
        return f"holdfast resume {shell_word(str(stands))}"
    return command
