"""Where the jobs are that the page shows: a server, directories, or of a single job perhaps its directory."""

from collections.abc import Mapping
from pathlib import Path

import redis

from queue_app.coordination.find_job import server_url
from queue_app.coordination.fleet import job_places
from queue_app.coordination.manifest import known_jobs as known_jobs_of
from queue_app.coordination.redis_client import TRANSIENT, connect
from queue_app.coordination.trust.job_places import JobPlaces
from queue_app.errors import HoldfastError
from queue_app.job.directory import JobDir
from queue_app.job.spec import Job
from queue_app.status.known_jobs import jobs_of_folder, known_jobs


class Place:
    """One server's jobs, or the one job that was asked for; `directory` only when it was named by that."""

    def __init__(self, *, job_id: str | None, directory: JobDir | None, broker: str | None) -> None:
        self.directory = directory
        self.broker = broker
        self._job_id = job_id
        self._url = ""
        self._client: redis.Redis | None = None
        self._places: JobPlaces | None = None

    def of(self, job_id: str) -> "Place":
        """Where to look for one of the jobs."""
        return self

    def directories(self) -> Mapping[str, JobDir]:
        """Job id -> directory, of jobs that are known by that."""
        return {self.the_job_id(): self.directory} if self.directory else {}

    def client(self) -> redis.Redis:
        """A client of the server; an embedded one may have another address than a moment ago."""
        url = server_url(self.directory, self.broker)
        if self._client is None or url != self._url:
            self._client, self._url, self._places = connect(url), url, None
        return self._client

    def jobs(self, client: redis.Redis) -> Mapping[str, str]:
        """Job id -> job directory, of those that are to be shown. Raises redis errors as they come."""
        if self.directory is not None:
            return {self.the_job_id(): str(self.directory.path)}
        known = known_jobs_of(client)
        if self._job_id is not None:
            return {self._job_id: known.get(self._job_id, "")}
        return known

    def the_job_id(self) -> str:
        """Of the single job; `--overwrite` puts another one into its directory."""
        job = load(self.directory) if self.directory else None
        if job is not None:
            self._job_id = job.job_id
        return self._job_id or ""

    def directory_of(self, job_id: str) -> JobDir | None:
        """Where the job lies, as far as this host sees it. Raises redis errors as they come."""
        if self.directory is not None:
            return self.directory
        client = self.client()
        return self.seen(client, job_id, self.jobs(client).get(job_id, ""))

    def seen(self, client: redis.Redis, job_id: str, hint: str) -> JobDir | None:
        """The directory that a server says is the job's, where this host sees it. Raises likewise."""
        if self._places is None:
            self._places = job_places(client)
        return self._places.find_or_none(job_id, hint)

    def name_of(self, job_id: str) -> str:
        """What `pause`, `unpause` and `cancel` call the job: an embedded server is found by directory."""
        return str(self.directory.path) if self.directory else job_id


class ManyJobs(Place):
    """The jobs of one folder; or without one those of the working directory, the last ones of this user, and
    those of the server, which need not be there unless it was named."""

    def __init__(self, *, broker: str | None, folder: Path | None = None) -> None:
        super().__init__(job_id=None, directory=None, broker=broker)
        self.folder = folder
        self._single: dict[Path, Place] = {}

    def of(self, job_id: str) -> Place:
        directory = self.directories().get(job_id)
        if directory is None:
            return self
        if directory.path not in self._single:
            # Where a job has a server of its own, that one knows more of it than any other.
            broker = None if directory.server_json.exists() else self.broker
            self._single[directory.path] = Place(job_id=job_id, directory=directory, broker=broker)
        return self._single[directory.path]

    def directories(self) -> Mapping[str, JobDir]:
        """The newest last, as a server's jobs come; of one that was copied, only the newest."""
        found = jobs_of_folder(self.folder) if self.folder else known_jobs()
        return {job.job_id: directory for directory in reversed(found) if (job := load(directory))}

    def jobs(self, client: redis.Redis) -> Mapping[str, str]:
        if self.folder is not None:
            return {}
        try:
            return super().jobs(client)
        except TRANSIENT:
            if self.broker is not None:
                raise
            return {}


def load(directory: JobDir) -> Job | None:
    """job.json, where this host can see one that it can read."""
    try:
        return directory.load()
    except (HoldfastError, OSError):
        return None


def title_of(directory: JobDir) -> str:
    """The output's name, as far as the directory's tells it."""
    return directory.path.name.removesuffix(".holdfast")
