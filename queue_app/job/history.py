"""What a job went through, in its directory: a small file per attempt at a shard and start of the command.

Every file has one writer, so that hosts which share the directory never write the same one. It is there for
the run card, and nothing decides by it: what a power loss takes of it is missing from the card and nowhere
else, which is why nothing here is fsynced.
"""

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from queue_app.errors import DiskFull
from queue_app.host.durable_files import removed_on_failure, room_for
from queue_app.host.own_files import make_inner_directory, write_own
from queue_app.job.directory import JobDir

REASON_LETTERS_MOST = 500

Noted = TypeVar("Noted")


class Outcome(StrEnum):
    """How an attempt at a shard ended."""

    DONE = "done"
    STOPPED = "stopped"
    """In order, at a batch boundary: the worker was told to end, or the job was paused or cancelled."""
    LOST = "lost"
    """The lease went to another worker meanwhile."""
    FAILED = "failed"
    """With an error."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One worker's time with one shard. Without an outcome its process ended without a word.

    Times are seconds since 1970 by the worker's clock; `seen` is its last sign of life. A clock that is
    set or a machine that sleeps moves them: `elapsed` counts the seconds between the two by itself. The
    counts are those of the shard's whole plan, None until it stands.
    """

    job: str
    shard: int
    token: int
    worker: str
    hardware: str
    torch: str
    began: float
    seen: float
    outcome: Outcome | None = None
    reason: str = ""
    num_tokens: int | None = None
    num_batches: int | None = None
    num_long: int | None = None
    fill: float | None = None
    elapsed: float | None = None
    exact: bool | None = None
    """Whether a vector was seen to be the same in any company; None: not asked, or not yet known."""

    @property
    def until(self) -> float:
        """When it ended, had nobody touched the clock meanwhile."""
        return self.seen if self.elapsed is None else self.began + self.elapsed


@dataclass(frozen=True, slots=True)
class CommandStart:
    """One start of `holdfast embed` or `resume`, and which of its processes died while it ran."""

    host: str
    pid: int
    began: float
    worker_deaths: int = 0
    server_deaths: int = 0


class AttemptLog:
    """Writes the file of one attempt."""

    def __init__(
        self,
        job_dir: JobDir,
        attempt: Attempt,
        clock: Callable[[], float] = time.time,
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = job_dir.history / f"{attempt.shard:05d}-{attempt.token}.json"
        self._attempt = attempt
        self._clock = clock
        self._stopwatch = stopwatch
        self._started = stopwatch()

    def note(self, **news: Any) -> None:
        """A sign of life, and what is new: fields of Attempt. Raises DiskFull."""
        elapsed = self._stopwatch() - self._started
        self._attempt = replace(self._attempt, seen=self._clock(), elapsed=elapsed, **news)
        _write(self._path, asdict(self._attempt))

    def fail(self, reason: str) -> None:
        """The attempt ended with an error, which may be that nothing can be written here."""
        with contextlib.suppress(DiskFull, OSError):
            self.note(outcome=Outcome.FAILED, reason=reason[:REASON_LETTERS_MOST])


class CommandLog:
    """Writes the file of one start of the command."""

    def __init__(self, job_dir: JobDir, clock: Callable[[], float] = time.time) -> None:
        self._start = CommandStart(socket.gethostname(), os.getpid(), clock())
        self._path = job_dir.history / f"command-{self._start.began * 1000:.0f}.json"
        _write(self._path, asdict(self._start))

    def worker_died(self) -> None:
        self._start = replace(self._start, worker_deaths=self._start.worker_deaths + 1)
        _write(self._path, asdict(self._start))

    def server_died(self) -> None:
        self._start = replace(self._start, server_deaths=self._start.server_deaths + 1)
        _write(self._path, asdict(self._start))


@dataclass(frozen=True, slots=True)
class History:
    """Everything that was noted, in the order in which it began."""

    attempts: tuple[Attempt, ...]
    starts: tuple[CommandStart, ...]

    def busy_seconds(self) -> float:
        """For how long at least one shard was under way; a machine that sleeps does not count."""
        busy, until = 0.0, 0.0
        for attempt in self.attempts:
            busy += max(0.0, attempt.until - max(attempt.began, until))
            until = max(until, attempt.until)
        return busy

    def latest(self) -> dict[int, Attempt]:
        """Per shard the last attempt that came as far as a plan."""
        return {attempt.shard: attempt for attempt in self.attempts if attempt.num_tokens is not None}


def read_history(job_dir: JobDir, job_id: str) -> History:
    """What the directory holds of the job; files that are not readable as ours are left out.

    So is what a zombie still writes of a job that this one has replaced.
    """
    found = _read(job_dir, "[0-9]*.json", TypeAdapter(Attempt))
    attempts = (attempt for attempt in found if attempt.job == job_id)
    starts = _read(job_dir, "command-*.json", TypeAdapter(CommandStart))
    return History(
        tuple(sorted(attempts, key=lambda attempt: attempt.began)),
        tuple(sorted(starts, key=lambda start: start.began)),
    )


def _read(job_dir: JobDir, pattern: str, kind: TypeAdapter[Noted]) -> Iterator[Noted]:
    for path in sorted(job_dir.history.glob(pattern)):
        with contextlib.suppress(ValidationError):  # what a power loss left of it
            yield kind.validate_json(path.read_bytes())


def _write(path: Path, fields: dict[str, Any]) -> None:
    """Whole or not at all, though not durably."""
    temporary = path.with_name(f".{path.name}.tmp")
    with room_for(path), removed_on_failure(temporary):
        make_inner_directory(path.parent)
        write_own(temporary, json.dumps(fields))
        temporary.replace(path)
