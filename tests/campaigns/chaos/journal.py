"""What the workers' logs say: commits, fences, lost leases, and how soon work went on after a fault."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

# A line that its writer did not live to end runs into the next: the last stamp of a line counts.
LINE = re.compile(r".*\[(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),(\d{3}): \w+/[^\]]+\] (.*)")
LABEL = re.compile(r"(committed|computing|done|fenced|lease lost) job=(\S+) shard=(\d+)")
BATCHES = re.compile(r"batches=([\d,]+)$")
COUNTED = {
    "fenced ": "zombie writes fenced",
    "lease lost ": "leases found lost by their holders",
    "lease taken away ": "leases taken away",
    "rebuilt from its directory ": "jobs rebuilt from their directories",
    "model loaded ": "model loads",
}
WORK_ENDED = re.compile(
    r"Task (handler raised error|gpu_tasks\.embed_shard\[[^\]]+\] (succeeded|retry|raised|reject))"
    r"|Process '.*' pid:\d+ exited|\S+@\S+ ready\.$"
)

ShardKey = tuple[str, int]
"""(job id, shard index)"""


@dataclass(slots=True)
class _Recovery:
    """What was at work when a fault struck, and has not gone on yet."""

    fault: str
    at: float
    shards: set[ShardKey]
    queues: set[str]


@dataclass(slots=True)
class Journal:
    """Reads each worker's log as it grows. `at` is always seconds since the epoch."""

    logs: Path
    commits: Counter[tuple[str, int, int]] = field(default_factory=Counter)
    """(job, shard, batch) -> how often it was committed"""
    begun: Counter[ShardKey] = field(default_factory=Counter)
    """shard -> how often somebody began to compute it"""
    counts: Counter[str] = field(default_factory=Counter)
    seconds_of_shards: dict[str, list[float]] = field(default_factory=dict)
    """fault -> from the fault to the next commit of each shard that was being computed"""
    seconds_of_workers: dict[str, list[float]] = field(default_factory=dict)
    """fault -> from the fault to the next commit, of any shard, by each worker that was computing"""
    _current: dict[str, ShardKey] = field(default_factory=dict)
    _waiting: list[_Recovery] = field(default_factory=list)
    _offsets: Counter[Path] = field(default_factory=Counter)

    def read(self) -> None:
        """Take in what was written since the last call."""
        for log in sorted(self.logs.glob("?pu*.log")):
            for line in self._new_lines(log):
                self._take(log.stem, line)

    def shard_of(self, queue: str) -> ShardKey | None:
        """What the worker of a queue is computing, by its log."""
        return self._current.get(queue)

    def note_fault(self, fault: str, at: float, queues: Iterable[str]) -> None:
        """From now on, wait for these queues' workers, and what they were computing, to go on."""
        busy = {queue for queue in queues if queue in self._current}
        if busy:
            self._waiting.append(_Recovery(fault, at, {self._current[queue] for queue in busy}, busy))

    def committed_twice(self, job_id: str) -> int:
        return sum(times - 1 for (job, _, _), times in self.commits.items() if job == job_id)

    def about(self, job_id: str, *, last: int = 30) -> list[str]:
        """The last log lines that name a job, for a report of what went wrong."""
        found = [
            f"{log.stem}: {line}"
            for log in sorted(self.logs.glob("*.log"))
            for line in log.read_text(errors="replace").splitlines()
            if job_id in line
        ]
        return sorted(found, key=lambda line: line.partition("[")[2])[-last:]

    def _new_lines(self, log: Path) -> Iterator[str]:
        with log.open("rb") as file:
            file.seek(self._offsets[log])
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._offsets[log] += len(whole)
        yield from whole.decode(errors="replace").splitlines()

    def _take(self, queue: str, line: str) -> None:
        stamped = LINE.match(line)
        if stamped is None:
            return
        at = datetime.fromisoformat(stamped[1]).timestamp() + int(stamped[2]) / 1000
        text = stamped[3]
        self.counts.update(name for opening, name in COUNTED.items() if text.startswith(opening))
        if WORK_ENDED.match(text):
            self._current.pop(queue, None)
        if label := LABEL.match(text):
            self._take_event(queue, at, label[1], (label[2], int(label[3])), text)

    def _take_event(self, queue: str, at: float, event: str, shard: ShardKey, text: str) -> None:
        if event == "computing":
            self._current[queue] = shard
            self.begun[shard] += 1
        if event == "committed" and (batches := BATCHES.search(text)):
            self.commits.update((*shard, int(batch)) for batch in batches[1].split(","))
        if event in ("committed", "done"):
            self._end_waiting(queue, shard, at)

    def _end_waiting(self, queue: str, shard: ShardKey, at: float) -> None:
        for recovery in self._waiting:
            seconds = at - recovery.at
            if seconds > 0 and shard in recovery.shards:
                recovery.shards.remove(shard)
                self.seconds_of_shards.setdefault(recovery.fault, []).append(seconds)
            if seconds > 0 and queue in recovery.queues:
                recovery.queues.remove(queue)
                self.seconds_of_workers.setdefault(recovery.fault, []).append(seconds)
        self._waiting = [recovery for recovery in self._waiting if recovery.shards or recovery.queues]
