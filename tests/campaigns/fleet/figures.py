"""What a scenario found, beside what was found before and what is promised."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """One row. `before`: the figure of the version that this campaign was first run against, in words."""

    scenario: str
    before: str
    promised: str
    found: str
    good: bool

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def as_table(figures: Sequence[Figure]) -> Table:
    """For a terminal."""
    table = Table("scenario", "before", "promised", "found", "")
    for each in figures:
        table.add_row(each.scenario, each.before, each.promised, each.found, _verdict(each))
    return table


def as_markdown(figures: Sequence[Figure]) -> str:
    lines = ["| scenario | before | promised | found | |", "|---|---|---|---|---|"]
    lines += [
        f"| {each.scenario} | {each.before} | {each.promised} | {each.found} | {_verdict(each)} |"
        for each in figures
    ]
    return "\n".join(lines)


def _verdict(figure: Figure) -> str:
    return "good" if figure.good else "BAD"
