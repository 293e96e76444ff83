"""Every job that a user may mean who names none, with its output: from a server, and from directories."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from queue_app.coordination.fleet import job_places
from queue_app.coordination.manifest import known_jobs as known_jobs_of
from queue_app.coordination.redis_client import TRANSIENT, check, connect
from queue_app.errors import HoldfastError
from queue_app.job.directory import JobDir
from queue_app.job.output_place import output_of
from queue_app.settings import runtime_config
from queue_app.status.job_snapshot import JobSnapshot
from queue_app.status.known_jobs import known_jobs
from queue_app.status.snapshot import ask_or_fault, snapshots
from queue_app.status.text import describe

NONE_KNOWN = "no jobs: none in this directory, none that you began lately, and none of a server"


@dataclass(frozen=True, slots=True)
class ListedJob:
    """A job of the list. `directory` and `output` are empty where this host does not see them."""

    now: JobSnapshot
    directory: str = ""
    output: str = ""

    def as_json(self) -> dict[str, Any]:
        """That of `status --json`, and the two paths."""
        return {**self.now.as_json(), "directory": self.directory or None, "output": self.output or None}

    def text(self) -> str:
        """Its output, and under it what `status` says of it."""
        return "\n".join(filter(None, [self.output or self.directory, describe(self.now)]))


def all_jobs(broker: str | None) -> list[ListedJob]:
    """The jobs of the working directory, the last ones of this user, and those of the server, each once.

    `broker` None: nobody named a server, and there need be none.

    Raises:
        BrokerUnreachable: the one that was named does not answer.
    """
    listed = [found for job_dir in known_jobs() if (found := _of_directory(job_dir))]
    known = {each.now.job for each in listed}
    return [*listed, *(each for each in _of_server(broker) if each.now.job not in known)]


def _of_directory(job_dir: JobDir) -> ListedJob | None:
    """None where nothing can be read any more: a list is not the place to say so."""
    try:
        (now,) = snapshots(str(job_dir.path), None)
        return ListedJob(now, str(job_dir.path), output_text(job_dir))
    except (HoldfastError, OSError):
        return None


def output_text(job_dir: JobDir) -> str:
    """Where a job's output is, or will be; empty where nobody knows."""
    try:
        return str(output_of(job_dir.load(), job_dir))
    except (HoldfastError, OSError):
        return ""


def _of_server(broker: str | None) -> Iterator[ListedJob]:
    url = broker or runtime_config().broker_url
    client = connect(url)
    try:
        check(client, url)
        directories = known_jobs_of(client)
    except (HoldfastError, *TRANSIENT):
        if broker is not None:
            raise
        return
    places = job_places(client)
    for job_id, path in sorted(directories.items()):
        if now := ask_or_fault(client, job_id):
            seen = places.find_or_none(job_id, path)
            yield ListedJob(now, path, output_text(seen) if seen else "")
