"""The outcomes as a table for the terminal and as markdown."""

import platform
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from itertools import groupby

from rich.table import Table

from benchmarks.peers.cases import Case
from benchmarks.peers.outcome import Outcome
from benchmarks.peers.systems import HERE, SYSTEMS, System

COLUMNS = (
    "case", "system", "ends", "exit code", "rows saved", "lost", "computed again", "extra work",
    "vectors changed", "back after, s", "bad record",
)  # fmt: skip
NOTES = """\
- **ends**: *hangs* and *loops* were ended from outside after {patience:.0f} s in which no new row was begun;
  a loop computes the same rows again and again all that while.
- **rows saved**: with a vector in the output, or, where there is none, in the files that are there.
  **lost**: records without a vector, the bad one left out.
- **computed again**: rows whose forward pass was begun more than once, of those begun when the fault
  struck. **extra work**: rows begun beyond once each, as a share of all rows.
- **vectors changed**: saved vectors that differ in any bit from the undisturbed run of the same system, the
  bad record left out. An empty text moves the batches, so that last bits may differ.
- **back after**: from the kill (all killed: from the second command) until a process
  computes that did not before, or any computes a row that was in flight; with a record that kills, from its
  first kill until its neighbours are begun for the last time.
- **bad record**: whether its vector is in the output, and whether its id can be read in what the system
  printed, logged or wrote beside the output.
- Kills: Holdfast loses a whole worker at every second point, else the process that computes, as peers do.
  Peers are killed at 60 % of the rows, amid tasks of 250 rows: at the half two have just ended.
- Holdfast's promises, checked at every point: it ends by itself; exit code 0, or 3 with a bad record; every
  other record is embedded, and the bad one named and not stored; no more rows are computed again than the
  batches in flight hold; after a kill the output files are byte for byte those of the undisturbed run."""


def groups(outcomes: Sequence[Outcome]) -> Iterator[tuple[Case, System, list[Outcome]]]:
    """All trials of one system in one case; by case, then in the order of the systems."""
    order = {system.key: place for place, system in enumerate(SYSTEMS)}
    cases = list(Case)
    ordered = sorted(outcomes, key=lambda each: (cases.index(each.case), order[each.system], each.point))
    for (case, key), group in groupby(ordered, key=lambda each: (each.case, each.system)):
        yield case, SYSTEMS[order[key]], list(group)


def rows(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, ...]]:
    for case, system, group in groups(outcomes):
        times = f", {len(group)} points" if len(group) > 1 else ""
        yield (str(case), system.title + times, *_cells(group))


def _cells(group: Sequence[Outcome]) -> tuple[str, ...]:
    first = group[0]
    codes = {"-" if each.exit_code is None else str(each.exit_code) for each in group}
    again = _span([each.again for each in group])
    if first.case not in (Case.CALM, Case.NAN, Case.EMPTY):
        again += f" of {_span([each.begun_before for each in group])}"
    back = [round(each.back_seconds, 1) for each in group if each.back_seconds is not None]
    return (
        ", ".join(sorted({each.ending for each in group})),
        ", ".join(sorted(codes)),
        _saved(group),
        _span([each.lost for each in group]),
        again,
        _span([round(100 * each.extra / each.num_rows) for each in group]) + " %",
        "-" if first.case is Case.CALM else _span([each.changed for each in group]),
        _span(back) if back else "-",
        ", ".join(sorted({_bad_record(each) for each in group})),
    )


def _saved(group: Sequence[Outcome]) -> str:
    saved = _span([each.saved for each in group])
    doubled = max(each.doubled for each in group)
    not_finite = max(each.not_finite for each in group)
    return (
        saved + (f", {doubled} twice" if doubled else "") + (f", {not_finite} as NaN" if not_finite else "")
    )


def _span(values: Sequence[float]) -> str:
    least, most = min(values), max(values)
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def _bad_record(outcome: Outcome) -> str:
    if outcome.bad_stored is None:
        return "-"
    stored = "stored" if outcome.bad_stored else "not stored"
    return f"{stored}, {'named' if outcome.named else 'not named'}"


def as_table(outcomes: Sequence[Outcome]) -> Table:
    table = Table(title="Holdfast and its peers")
    for number, column in enumerate(COLUMNS):
        table.add_column(column, justify="left" if number < 2 else "right")
    last = ""
    for row in rows(outcomes):
        if last and row[0] != last:
            table.add_section()
        table.add_row("" if row[0] == last else row[0], *row[1:])
        last = row[0]
    return table


def as_markdown(outcomes: Sequence[Outcome], *, command: str, seed: int, patience: float) -> str:
    ours = [each for each in outcomes if each.system == "holdfast" and each.case is not Case.CALM]
    broken = [line for each in outcomes if each.system == "holdfast" for line in each.broken()]
    lines = [
        "# Holdfast beside its peers", "", f"`{command}`", "",
        f"- {outcomes[0].num_rows:,} texts of mixed length, seed {seed}",
        "- all-MiniLM-L6-v2 in float32, two processes of one thread each on two processors",
        f"- versions: {', '.join(versions())}",
        *(f"- {system.title}: `{system.shown}`" for system in SYSTEMS), "",
        *_markdown(COLUMNS, rows(outcomes)), "", NOTES.format(patience=patience), "",
        "## Holdfast, point by point", "",
        *_markdown(("case", "point", *COLUMNS[2:]), _points(ours)), "",
        *([f"- BROKEN {line}" for line in broken] or ["Every promise was kept at every point."]), "",
    ]  # fmt: skip
    return "\n".join(lines)


def _points(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, ...]]:
    for _, _, group in groups(outcomes):
        for each in group:
            yield (str(each.case), each.where, *_cells([each]))


def _markdown(columns: Sequence[str], table: Iterator[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield f"| {' | '.join(['---', '---', *['---:'] * (len(columns) - 2)])} |"
    for row in table:
        yield f"| {' | '.join(row)} |"


def versions() -> list[str]:
    """Ours as installed here; the peers' as pinned for their own environment."""
    pinned = (HERE / "requirements.txt").read_text().splitlines()
    peers = [line.replace("==", " ") for line in pinned if "==" in line]
    return [f"python {platform.python_version()}", f"holdfast {version('holdfast')}", *peers]
