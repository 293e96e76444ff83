"""What an examination finds, each with its remedy, and how findings are shown."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import typer

from queue_app.shown import visible_lines

Level = Literal["ok", "warning", "problem"]
COLORS: dict[Level, str] = {"ok": "green", "warning": "yellow", "problem": "red"}
LEVELS_NAMED: tuple[Level, ...] = ("problem", "warning")
TOPIC_WIDTH = 13


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `remedy` is what to do, in one line; empty where nothing is."""

    topic: str
    level: Level
    text: str
    remedy: str = ""


def is_well(findings: Sequence[Finding]) -> bool:
    """True when nothing keeps a job from running; warnings do not."""
    return all(finding.level != "problem" for finding in findings)


def describe_findings(findings: Sequence[Finding]) -> Iterator[str]:
    """One line each, the remedy below, and a last line that sums up. Colours are for a terminal."""
    for finding in findings:
        level = typer.style(f"{finding.level:<9}", fg=COLORS[finding.level])
        yield f"{level}{finding.topic:<{TOPIC_WIDTH}}{visible_lines(finding.text)}"
        if finding.remedy:
            yield f"{'':{9 + TOPIC_WIDTH}}-> {visible_lines(finding.remedy)}"
    found = [said for level in LEVELS_NAMED if (said := _summary(findings, level))]
    yield f"\n{', '.join(found) or 'all is well'}"


def _summary(findings: Sequence[Finding], level: Level) -> str:
    """`2 problems (disk, server)`; empty where there are none."""
    topics = [finding.topic for finding in findings if finding.level == level]
    return f"{len(topics)} {level}{'s'[: len(topics) > 1]} ({', '.join(topics)})" if topics else ""


def findings_as_json(findings: Sequence[Finding]) -> dict[str, Any]:
    return {"well": is_well(findings), "findings": [asdict(finding) for finding in findings]}
