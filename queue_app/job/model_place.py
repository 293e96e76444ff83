"""Where a job's model lies now: job.json says where it was, and what it is.

Before anything is started for a job that is there, its model is looked for and held against the files that
the job was submitted with. The same one at another path goes on, and workers find it there.
"""

import json
from dataclasses import replace
from pathlib import Path

from queue_app.errors import ModelError
from queue_app.host.durable_files import write_durably
from queue_app.job.directory import JobDir
from queue_app.job.spec import Job
from queue_app.model.files import check_files
from queue_app.model.reader import locate


def at_its_place(job: Job, job_dir: JobDir) -> Job:
    """The job with the path at which its model lies now. Raises OSError."""
    return replace(job, model=replace(job.model, path=_noted(job, job_dir) or job.model.path))


def find_again(job: Job, job_dir: JobDir, ref: str | None) -> None:
    """Look for the job's model at `ref`, or where it lay last; note a new place. The caller holds the lock.

    Raises:
        ModelError: it is not there, or it is another one; says that -m names its new place.
    """
    if job.model.family == "mock":
        return
    path = Path(at_its_place(job, job_dir).model.path) if ref is None else _located(job, job_dir, ref)
    require_directory(path, job_dir)
    try:
        check_files(job.model.files, path)
    except ModelError as error:
        raise ModelError(f"{error}; {_how_to_go_on(job_dir)}") from None
    note_place(job, job_dir, str(path))


def note_place(job: Job, job_dir: JobDir, path: str) -> None:
    """Have workers find the model of this job at `path`."""
    if path != at_its_place(job, job_dir).model.path:
        write_durably(job_dir.model_place, json.dumps({"job": job.job_id, "path": path}).encode())


def require_directory(path: Path, job_dir: JobDir) -> None:
    if not path.is_dir():
        raise ModelError(f"{path}: the model of this job is not there any more; {_how_to_go_on(job_dir)}")


def _how_to_go_on(job_dir: JobDir) -> str:
    return f"where it lies elsewhere: holdfast resume {job_dir.path} -m ITS_PLACE"


def _located(job: Job, job_dir: JobDir, ref: str) -> Path:
    path = Path(ref).expanduser()
    if path.is_dir():
        return path.absolute()
    if not job.model.revision:  # never from the hub: what is no directory is a place without the model
        require_directory(path, job_dir)
    return locate(ref, job.model.revision)[0]


def _noted(job: Job, job_dir: JobDir) -> str | None:
    """None: nothing was noted, or of a job that was here before."""
    try:
        noted = json.loads(job_dir.model_place.read_bytes())
        return str(noted["path"]) if noted["job"] == job.job_id else None
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):  # it can be looked for again
        return None
