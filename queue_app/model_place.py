"""Where a job's model lies now: job.json says where it was, and what it is.

Before anything is started for a job that is there, its model is looked for and compared by its digest; the
same one at another path goes on, and workers find it there.
"""

import json
from dataclasses import replace
from pathlib import Path

from queue_app.durable import write_durably
from queue_app.errors import ModelError
from queue_app.job import Job, JobDir
from queue_app.model_card import describe_model


def at_its_place(job: Job, job_dir: JobDir) -> Job:
    """The job with the path at which its model lies now. Raises OSError."""
    return replace(job, model=replace(job.model, path=_noted(job, job_dir) or job.model.path))


def find_model(job: Job, job_dir: JobDir, ref: str | None) -> None:
    """Look for the job's model at `ref`, or where it lay last; note a new place. The caller holds the lock.

    Raises:
        ModelError: it is not there, or it is another one; says that -m names its new place.
    """
    path = ref or at_its_place(job, job_dir).model.path
    refuse_missing(job, job_dir, path)
    found = describe_model(path)
    if found.digest != job.model.digest:
        raise ModelError(
            f"{path}: not the model that this job was submitted with (its files differ); "
            f"where that lies elsewhere: {_how_to_go_on(job_dir)}"
        )
    note_place(job, job_dir, found.path)


def refuse_missing(job: Job, job_dir: JobDir, ref: str) -> None:
    """Raises ModelError where `ref` is the place of the job's model, and nothing is there any more."""
    path = Path(ref).expanduser()
    places = {job.model.path, at_its_place(job, job_dir).model.path}
    if str(path.absolute()) in places and not path.is_dir():
        raise ModelError(
            f"{path}: the model of this job is not there any more; "
            f"where it has moved: {_how_to_go_on(job_dir)}, or the same command with its new place"
        )


def _how_to_go_on(job_dir: JobDir) -> str:
    return f"holdfast resume {job_dir.path} -m ITS_PLACE"


def note_place(job: Job, job_dir: JobDir, path: str) -> None:
    """Have workers find the model of this job at `path`."""
    if path != at_its_place(job, job_dir).model.path:
        write_durably(job_dir.model_place, json.dumps({"job": job.job_id, "path": path}).encode())


def _noted(job: Job, job_dir: JobDir) -> str | None:
    """None: nothing was noted, or of a job that was here before."""
    try:
        noted = json.loads(job_dir.model_place.read_bytes())
        return str(noted["path"]) if noted["job"] == job.job_id else None
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):  # it can be looked for again
        return None
