"""What the workers of each host logged of their shards, with the time by the wall clock that all share."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tests.campaigns.chaos.journal import LABEL, LINE


@dataclass(frozen=True, slots=True)
class LogEvent:
    """`what` is `computing`, `committed`, `done`, `fenced` or `lease lost`; `at` counts seconds since the
    epoch."""

    host: str
    at: float
    what: str
    shard: int


def events_of(job_id: str, logs: Iterable[tuple[str, Path]]) -> list[LogEvent]:
    """Of one job, by time, from the logs of (host, log)."""
    found = [event for host, log in logs for event in _read(job_id, host, log)]
    return sorted(found, key=lambda event: event.at)


def _read(job_id: str, host: str, log: Path) -> Iterator[LogEvent]:
    for line in log.read_text(errors="replace").splitlines() if log.exists() else ():
        stamped = LINE.match(line)
        label = LABEL.match(stamped[3]) if stamped else None
        if stamped and label and label[2] == job_id:
            at = datetime.fromisoformat(stamped[1]).timestamp() + int(stamped[2]) / 1000
            yield LogEvent(host, at, label[1], int(label[3]))
