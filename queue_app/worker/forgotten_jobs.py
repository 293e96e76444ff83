"""Jobs that the server has forgotten: it lost its data, but the job directories are still there."""

import logging
from collections.abc import Container, Iterator, Sequence
from pathlib import Path

from queue_app.coordination.embedded_server import ServerAddress
from queue_app.errors import HoldfastError
from queue_app.job.directory import INCOMING, JobDir
from queue_app.job.output_place import exported
from queue_app.job.spec import Job

log = logging.getLogger(__name__)


class ForgottenJobs:
    """Looks for job directories in the roots: a root itself, and what lies directly in it."""

    def __init__(self, roots: Sequence[Path], broker_url: str) -> None:
        self.roots = list(roots)
        self.broker_url = broker_url
        self._known: dict[Path, tuple[int, Job | None]] = {}

    def find(self, known_ids: Container[str]) -> Iterator[tuple[Job, JobDir]]:
        """Every job that is to be worked on, and whose id is not among those the server knows."""
        for job_dir in self._job_dirs():
            job = self._load(job_dir)
            if job and job.job_id not in known_ids and self._wants_work(job, job_dir):
                yield job, job_dir

    def _wants_work(self, job: Job, job_dir: JobDir) -> bool:
        # A job that embed runs on a server of its own is none of ours: two manifests would fight over it.
        own = ServerAddress.read(job_dir.server_json)
        elsewhere = own is not None and own.url != self.broker_url
        return not elsewhere and not job_dir.held.exists() and exported(job, job_dir) is None

    def _job_dirs(self) -> Iterator[JobDir]:
        for root in self.roots:
            for path in (root, *(sorted(root.iterdir()) if root.is_dir() else ())):
                if (path / "job.json").is_file() and path.name != INCOMING:
                    yield JobDir(path)

    def _load(self, job_dir: JobDir) -> Job | None:
        """Read once, and again only when the file was replaced; None when it cannot be read."""
        try:
            stamp = job_dir.job_json.stat().st_mtime_ns
        except FileNotFoundError:
            return None
        if self._known.get(job_dir.path, (0, None))[0] != stamp:
            self._known[job_dir.path] = stamp, _load_or_say_why_not(job_dir)
        return self._known[job_dir.path][1]


def _load_or_say_why_not(job_dir: JobDir) -> Job | None:
    try:
        return job_dir.load()
    except HoldfastError as error:
        log.warning("not rebuilt: %s", error)
        return None
