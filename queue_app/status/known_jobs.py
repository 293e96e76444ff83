"""Which jobs a user may mean who names none: those of a folder, and the last ones that this user began.

The latter are remembered in `STATE/jobs.json`, paths of job directories, the newest first. The file is
replaced whole, under a lock. What cannot be remembered is no reason for a job to fail.
"""

import contextlib
import json
import logging
from collections.abc import Iterable
from pathlib import Path

from queue_app.host.durable_files import write_durably
from queue_app.host.file_lock import FileLock
from queue_app.host.own_files import require_trusted_directory
from queue_app.job.directory import ENDING, JobDir
from queue_app.settings import runtime_config

log = logging.getLogger(__name__)

REMEMBERED_MOST = 50
FILE = "jobs.json"


def remember_job(job_dir: JobDir) -> None:
    """Note that this user began a job, or went on with it. Jobs whose directories are gone are forgotten."""
    state = runtime_config().state
    if state is None:
        return
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FileLock(state / f"{FILE}.lock", wait=True):
            newest = job_dir.path.absolute()
            others = [path for path in _read(state) if path != newest and JobDir(path).job_json.is_file()]
            paths = [str(path) for path in (newest, *others)]
            write_durably(state / FILE, json.dumps(paths[:REMEMBERED_MOST], indent=0).encode(), mode=0o600)
    except OSError as error:
        log.warning("the job is not remembered for a list of jobs (%s): set HOLDFAST_STATE", error)


def known_jobs(folder: Path | None = None) -> list[JobDir]:
    """The jobs of a folder, by default the working directory, and then the others that this user began.

    Each is there once; of both kinds the newest come first.
    """
    state = runtime_config().state
    own = jobs_of_folder((folder or Path()).absolute())
    remembered = map(JobDir, _read(state) if state is not None else [])
    return _each_once([*own, *(job_dir for job_dir in remembered if job_dir.job_json.is_file())])


def jobs_of_folder(folder: Path) -> list[JobDir]:
    """The job directories in it that hold a job, the newest first, by the time of their job.json. Those of
    other users are none of ours."""
    found = [(_written(job_dir), job_dir) for job_dir in map(JobDir, sorted(folder.glob(f"*{ENDING}")))]
    there = [(when, job_dir) for when, job_dir in found if when is not None]
    return [job_dir for _, job_dir in sorted(there, key=lambda each: -each[0])]


def _written(job_dir: JobDir) -> float | None:
    with contextlib.suppress(OSError):
        written = job_dir.job_json.stat().st_mtime
        require_trusted_directory(job_dir.path)
        return written
    return None


def _each_once(job_dirs: Iterable[JobDir]) -> list[JobDir]:
    """A directory may have several names, by links."""
    found: dict[Path, JobDir] = {}
    for job_dir in job_dirs:
        found.setdefault(job_dir.path.resolve(), job_dir)
    return list(found.values())


def _read(state: Path) -> list[Path]:
    try:
        return [Path(path) for path in json.loads((state / FILE).read_bytes())]
    except (OSError, ValueError, TypeError):
        return []
