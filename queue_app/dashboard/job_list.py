"""The list of jobs, one line each: one round trip, whatever their number of shards."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import redis

from queue_app.coordination import keys
from queue_app.coordination.redis_client import TRANSIENT
from queue_app.coordination.states import JobStatus
from queue_app.dashboard.job_source import Place, title_of
from queue_app.job.directory import JobDir


@dataclass(frozen=True, slots=True)
class JobLine:
    """One job of the list. `state` is empty where the server has no more than its name."""

    job: str
    title: str
    state: str = ""
    total: int = 0
    settled: int = 0


@dataclass(frozen=True, slots=True)
class JobList:
    """The jobs of a server; those last seen, and why, while it is `away`."""

    server: str
    jobs: tuple[JobLine, ...] = ()
    away: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class JobListReader:
    """Reads the list again and again."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._last: tuple[JobLine, ...] = ()

    def read(self) -> JobList:
        """Never raises what a server does that is away: that is something to be shown."""
        try:
            self._last = tuple(self._lines(self.place.client()))
        except TRANSIENT as error:
            return JobList(self.place.server, self._last or self._named(), str(error))
        return JobList(self.place.server, self._last)

    def _lines(self, client: redis.Redis) -> list[JobLine]:
        directories = self.place.jobs(client)
        pipe = client.pipeline(transaction=False)
        for job_id in directories:
            pipe.hgetall(keys.job(job_id))
        answers = zip(directories.items(), pipe.execute(), strict=True)
        return [
            _line(job_id, path, JobStatus.of(fields) if "state" in fields else None)
            for (job_id, path), fields in answers
        ]

    def _named(self) -> tuple[JobLine, ...]:
        directory = self.place.directory
        return (JobLine(self.place.the_job_id(), title_of(directory)),) if directory else ()


def _line(job_id: str, path: str, status: JobStatus | None) -> JobLine:
    title = title_of(JobDir(Path(path))) or job_id
    if status is None:
        return JobLine(job_id, title)
    settled = status.sequences_done + status.sequences_quarantined
    return JobLine(job_id, title, str(status.state), status.sequences_total, settled)
