"""Work that was done twice: batches that were computed, not committed, and so computed again.

The promise is that a crash repeats at most one commit interval of work. A commit takes all that was
computed before it began, and begins when the oldest of that is one interval old. So a batch that dies
with its process was computed at most one interval before, not counting the time in which a commit was
under way: a batch waits for the commit before its own, and is not safe until its own has ended.
The batch that was being computed when the process died is not counted: it had no result yet.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.campaigns.chaos.stage import End

SLACK_SECONDS = 0.15
"""For the commit thread to be woken; times as many as want each core, on a machine that is crowded."""
Batch = tuple[str, int]
"""(path of the shard's store, batch)"""


@dataclass(frozen=True, slots=True)
class Computed:
    """A batch whose vectors were there at `at`; `split` names its records if it was computed in halves."""

    store: str
    batch: int
    token: int
    pid: int
    at: float
    split: tuple[int, ...]


@dataclass(slots=True)
class Rework:
    """What was repeated. `again` has one entry per process that was ended or stopped."""

    again: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    """fault -> how many batches of each process were computed again"""
    of_killed: list[tuple[float, End]] = field(default_factory=list)
    """of each killed process: how old its oldest such batch was, without the time it spent committing"""
    fatal_faults: set[str] = field(default_factory=set)
    otherwise: int = 0
    """batches computed again, not for their process's end: poison, a full disk, a lease that was lost"""
    by_zombies: int = 0
    """batches computed by a process whose shard somebody else was computing already"""
    despite_commit: list[Batch] = field(default_factory=list)
    """batches computed again though they were committed"""
    counts: Counter[str] = field(default_factory=Counter)
    split: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    """store -> records whose vectors were computed in a batch that was split"""

    def kills(self) -> list[int]:
        """Batches repeated, for each process that was killed."""
        return [times for fault in self.fatal_faults for times in self.again[fault]]

    def seconds_of_kills(self) -> list[float]:
        return [seconds for seconds, _ in self.of_killed]

    def failures(self, commit_seconds: float, *, timed: bool) -> Iterator[str]:
        """`timed`: also what only a clock can tell, on a machine that is not too crowded to be trusted."""
        for seconds, end in self.of_killed if timed else ():
            if seconds > commit_seconds + SLACK_SECONDS * end.crowd:
                why = f"commits are {commit_seconds} s apart, {end.crowd:.1f} processes wanted each core"
                yield f"{end.fault}: {seconds:.2f} s of work repeated, {why}"
        for store, batch in self.despite_commit:
            yield f"batch {batch} of {store} was committed, and computed again"


def read_events(home: Path) -> list[dict[str, Any]]:
    """Every event of all workers in the order of time; a line that its writer did not end is left out."""
    events = []
    for file in home.glob("*.jsonl"):
        for line in file.read_text().splitlines():
            try:
                events.append(json.loads(line))
            except ValueError:
                continue
    return sorted(events, key=lambda event: float(event["at"]))


def find_rework(home: Path, ends: Sequence[End]) -> Rework:
    events = read_events(home)
    found = Rework(fatal_faults={end.fault for end in ends if end.fatal})
    found.counts.update(event["event"] for event in events)
    committed: set[tuple[str, int, int]] = set()
    for event in of_kind(events, "committed"):
        committed |= {(event["store"], event["token"], batch) for batch in event["batches"]}
    # A full disk or a higher token lost these batches, whatever came upon the process after that.
    refused = {(event["store"], event["token"]): event["at"] for event in of_kind(events, "not committed")}
    lost: dict[End, list[Computed]] = {end: [] for end in ends}
    by_pid = defaultdict(list)
    for event in events:
        by_pid[event["pid"]].append(event)
    for first in _computed_again(events, found):
        if (first.store, first.token, first.batch) in committed:
            found.despite_commit.append((first.store, first.batch))
            continue
        end = next((end for end in ends if end.pid == first.pid and end.at >= first.at - SLACK_SECONDS), None)
        if end is None or refused.get((first.store, first.token), end.at) < end.at:
            found.otherwise += 1
        else:
            lost[end].append(first)
    for end, batches in lost.items():
        found.again[end.fault].append(len(batches))
        if batches:
            seconds = _waited(by_pid[end.pid], end, min(batch.at for batch in batches))
            found.of_killed += [(seconds, end)] if end.fatal else []
    return found


def _computed_again(events: Iterable[dict[str, Any]], found: Rework) -> Iterator[Computed]:
    """Each computation whose batch was computed once more, by the next owner of the shard."""
    owner: Counter[str] = Counter()
    last: dict[Batch, Computed] = {}
    for event in of_kind(events, "computed"):
        now = Computed(
            event["store"], event["batch"], event["token"], event["pid"], event["at"], tuple(event["split"])
        )
        if now.token < owner[now.store]:
            found.by_zombies += 1
            continue
        owner[now.store] = now.token
        found.split[now.store].update(now.split)
        if before := last.get((now.store, now.batch)):
            yield before
        last[now.store, now.batch] = now


def _waited(events: Iterable[dict[str, Any]], end: End, since: float) -> float:
    """From `since` to the end of the process whose events these are, without what it spent committing."""
    waited, begun = end.at - since, None
    for event in events:
        if event["at"] > end.at:
            break
        if event["event"] == "committing":
            begun = event["at"]
        elif event["event"] in ("committed", "not committed") and begun is not None:
            waited -= max(0.0, event["at"] - max(begun, since))
            begun = None
    return waited if begun is None else waited - (end.at - max(begun, since))


def of_kind(events: Iterable[dict[str, Any]], kind: str) -> Iterator[dict[str, Any]]:
    return (event for event in events if event["event"] == kind)
