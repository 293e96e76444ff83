"""The list of jobs, one line each: one round trip to a server, whatever their number of shards."""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import redis

from queue_app.coordination.manifest import job_statuses
from queue_app.coordination.redis_client import TRANSIENT
from queue_app.coordination.states import JobStatus
from queue_app.coordination.trust.values import Garbage
from queue_app.dashboard.job_source import Place, load, title_of
from queue_app.job.directory import JobDir
from queue_app.settings import runtime_config
from queue_app.status.directory_snapshot import snapshot_of_directory

READ_AGAIN_SECONDS = 5.0
DONE_AGAIN_SECONDS = 60.0
"""Of a job that is read from its directory, for which all of its shards are looked at. A finished one changes
only by a quarantine retry."""


@dataclass(frozen=True, slots=True)
class JobLine:
    """One job of the list. `state` is empty where nobody has more than its name."""

    job: str
    title: str
    state: str = ""
    total: int = 0
    settled: int = 0
    directory: str = ""


@dataclass(frozen=True, slots=True)
class JobList:
    """The jobs that are shown; those last seen, and why, while the server is `away`."""

    jobs: tuple[JobLine, ...] = ()
    away: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class JobListReader:
    """Reads the list again and again."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._last: dict[str, JobLine] = {}
        self._read: dict[str, tuple[float, JobLine]] = {}

    def read(self) -> JobList:
        """Never raises what a server does that is away: that is something to be shown."""
        away = ""
        try:
            self._last = {line.job: line for line in self._of_server(self.place.client())}
        except (*TRANSIENT, Garbage) as error:
            away = str(error)
        return JobList(tuple({**self._last, **self._of_directories(away)}.values()), away)

    def _of_directories(self, away: str) -> dict[str, JobLine]:
        """The jobs of which the server says nothing; of the single one that is looked at, only the name."""
        silent = {
            job_id: directory
            for job_id, directory in self.place.directories().items()
            if not self._last.get(job_id, NOBODY).state
        }
        if self.place.directory is None:
            return {job_id: self._of_directory(job_id, directory) for job_id, directory in silent.items()}
        is_needed = away and not self._last
        return {job_id: _named(job_id, directory) for job_id, directory in silent.items() if is_needed}

    def _of_server(self, client: redis.Redis) -> Iterator[JobLine]:
        directories = self.place.jobs(client)
        if not directories:
            return
        found = job_statuses(client, directories)
        for job_id, path in directories.items():
            yield _line(job_id, path, found.get(job_id))

    def _of_directory(self, job_id: str, directory: JobDir) -> JobLine:
        """What its own server says, where it has one that answers; else its files, now and then."""
        read_at, line = self._read.get(job_id, (float("-inf"), NOBODY))
        patience = DONE_AGAIN_SECONDS if line.state == "done" else READ_AGAIN_SECONDS
        if time.monotonic() - read_at < patience:
            return line
        line = self._asked(job_id, directory) or _of_files(job_id, directory)
        if line.state != "running":
            self._read[job_id] = (time.monotonic(), line)
        return line

    def _asked(self, job_id: str, directory: JobDir) -> JobLine | None:
        try:
            found = job_statuses(self.place.of(job_id).client(), [job_id]).get(job_id)
        except (*TRANSIENT, redis.AuthenticationError):
            return None
        return _line(job_id, str(directory.path), found) if isinstance(found, JobStatus) else None


NOBODY = JobLine("", "")


def _line(job_id: str, path: str, status: JobStatus | Garbage | None) -> JobLine:
    """Of a job of which the server holds garbage, no more than its name."""
    title = title_of(JobDir(Path(path))) or job_id
    if not isinstance(status, JobStatus):
        return JobLine(job_id, title, directory=path)
    settled = status.sequences_done + status.sequences_quarantined
    return JobLine(job_id, title, str(status.state), status.sequences_total, settled, path)


def _named(job_id: str, directory: JobDir) -> JobLine:
    return JobLine(job_id, title_of(directory), directory=str(directory.path))


def _of_files(job_id: str, directory: JobDir) -> JobLine:
    job = load(directory)
    if job is None or job.job_id != job_id:
        return _named(job_id, directory)
    now = snapshot_of_directory(job, directory, runtime_config().scratch)
    return replace(
        _named(job_id, directory), state=str(now.state), total=now.total, settled=now.done + now.quarantined
    )
