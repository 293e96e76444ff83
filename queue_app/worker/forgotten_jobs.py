"""Jobs that the server has forgotten: it lost its data, but the job directories are still there."""

import logging
from collections.abc import Container, Iterator, Sequence
from pathlib import Path

import redis

from queue_app.coordination.embedded_server import ServerAddress
from queue_app.coordination.fleet import Fleet, fleet_of_server
from queue_app.coordination.trust.job_places import in_roots
from queue_app.errors import HoldfastError
from queue_app.host.own_files import require_trusted_directory
from queue_app.job.directory import INCOMING, JobDir
from queue_app.job.output_place import exported
from queue_app.job.spec import Job
from queue_app.settings import RuntimeConfig

log = logging.getLogger(__name__)


class ForgottenJobs:
    """Looks for the fleet's jobs where it remembers some, and in the roots: a root itself, and what lies
    directly in it."""

    def __init__(self, roots: Sequence[Path], broker_url: str, fleet: Fleet) -> None:
        self.roots = list(roots)
        self.broker_url = broker_url
        self.fleet = fleet
        self._known: dict[Path, tuple[int, Job | None]] = {}
        self._left_alone: set[str] = set()

    @classmethod
    def of_server(cls, client: redis.Redis, config: RuntimeConfig) -> "ForgottenJobs":
        """As a worker's settings name them."""
        return cls(config.roots, config.broker_url, fleet_of_server(client))

    def find(self, known_ids: Container[str]) -> Iterator[tuple[Job, JobDir]]:
        """Every job of the fleet that is to be worked on, and whose id is not among those the server knows.

        Asks the server what the fleet's ids are; raises redis errors as they come.
        """
        self.fleet.learn_former()
        found: set[str] = set()
        for job_dir, job in self._jobs():
            if job.job_id in known_ids or job.job_id in found or not self._wants_work(job, job_dir):
                continue
            found.add(job.job_id)  # of two copies of a directory one goes on
            yield job, job_dir

    def _jobs(self) -> Iterator[tuple[JobDir, Job]]:
        """All jobs that there are. What is finished is remembered no longer."""
        remembered = self.fleet.directories()
        for path in dict.fromkeys([*remembered, *in_roots(self.roots)]):
            job_dir = JobDir(path)
            job = self._load(job_dir) if path.name != INCOMING else None
            if job is None:
                continue
            if path in remembered and exported(job, job_dir) is not None:
                self.fleet.memory.forget_directory(path)
            else:
                yield job_dir, job

    def _wants_work(self, job: Job, job_dir: JobDir) -> bool:
        return not job_dir.held.exists() and exported(job, job_dir) is None and self._is_ours(job, job_dir)

    def _is_ours(self, job: Job, job_dir: JobDir) -> bool:
        """Two fleets over one directory leave each other's jobs alone: two manifests would fight over one."""
        own = ServerAddress.read(job_dir.server_json)
        if own is not None:
            # embed runs it, on a server of its own, which may have been made anew since.
            return own.url == self.broker_url
        fleet = job_dir.fleet()
        if fleet not in self.fleet.ids and job.job_id not in self._left_alone:
            self._left_alone.add(job.job_id)
            log.warning(
                "left alone, of fleet %s; holdfast enqueue makes it one of ours (%s) job=%s dir=%s",
                fleet or "unknown",
                self.fleet.id,
                job.job_id,
                job_dir.path,
            )
        return fleet in self.fleet.ids

    def _load(self, job_dir: JobDir) -> Job | None:
        """Read once, and again only when the file was replaced; None when it is not there or not readable."""
        try:
            stamp = job_dir.job_json.stat().st_mtime_ns
        except OSError:  # or the directory's mount is gone
            return None
        if self._known.get(job_dir.path, (0, None))[0] != stamp:
            self._known[job_dir.path] = stamp, _load_or_say_why_not(job_dir)
        return self._known[job_dir.path][1]


def _load_or_say_why_not(job_dir: JobDir) -> Job | None:
    try:
        require_trusted_directory(job_dir.path)
        return job_dir.load()
    except HoldfastError as error:
        log.warning("not rebuilt: %s", error)
        return None
