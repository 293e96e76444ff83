"""Where a job lies, and where its output goes.

job.json says where the output was to go at submit, and never changes. What a later run was told instead, and
in which directory, stands in place.json beside it: so a directory that was moved or copied since is known.
"""

import contextlib
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from queue_app.errors import UsageError
from queue_app.host.durable_files import write_durably
from queue_app.job.directory import JobDir
from queue_app.job.output_names import meta_path
from queue_app.job.spec import Job

ENDING = ".holdfast"
OF_ANOTHER_PLACE = ("server.json", "processes.json")
"""What a copy must not take for its own: the server and the processes of the directory it was copied from."""


@dataclass(frozen=True, slots=True)
class Place:
    """What place.json holds: absolute paths."""

    directory: str
    output: str

    @classmethod
    def read(cls, job_dir: JobDir) -> "Place | None":
        """None where no run was noted yet, or the file is not readable as one."""
        try:
            return cls(**json.loads(job_dir.place.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def is_here(self, job_dir: JobDir) -> bool:
        """True also where the same directory has another path now: a link, or a mount."""
        noted = Path(self.directory)
        return noted.absolute() == job_dir.path or (noted.exists() and noted.samefile(job_dir.path))


def default_directory(output: Path) -> Path:
    """Where the job of an output lies unless somebody chose another place."""
    return output.with_name(output.name + ENDING)


def take_place(job_dir: JobDir, output: Path) -> None:
    """Note where a run goes on, and where it was told to write; the caller holds the directory's lock."""
    now = Place(str(job_dir.path), str(output.absolute()))
    if Place.read(job_dir) != now:
        write_durably(job_dir.place, json.dumps(asdict(now)).encode())


def forget_other_place(job_dir: JobDir) -> None:
    """In a directory that was moved or copied, remove what belongs to the one that it was; the caller holds
    the directory's lock. The server's data is made anew from the job."""
    place = Place.read(job_dir)
    if place is not None and not place.is_here(job_dir):
        for name in OF_ANOTHER_PLACE:
            (job_dir.path / name).unlink(missing_ok=True)
        shutil.rmtree(job_dir.path / "server", ignore_errors=True)
        for owner in job_dir.path.glob("checkpoints/*/owner.json"):
            # Its process may be at work on the original, and must not be ended for it.
            owner.write_text("")


def output_of(job: Job, job_dir: JobDir) -> Path:
    """Where the job's output is, or will be.

    A directory `<output>.holdfast` that was moved or copied has its output beside it. So two copies of one
    job never write the same file.

    Raises:
        UsageError: the directory was moved, and was not beside its output before: nobody knows where that is.
    """
    place = Place.read(job_dir)
    if place is None:
        return Path(job.output)
    output = Path(place.output)
    if place.is_here(job_dir):
        return output
    if Path(place.directory) == default_directory(output) and job_dir.path.suffix == ENDING:
        return job_dir.path.with_suffix("")
    raise UsageError(
        f"{job_dir.path}: this job directory was moved or copied from {place.directory}; "
        f"say where its output is to go: holdfast resume {job_dir.path} -o OUTPUT"
    )


def exported(job: Job, job_dir: JobDir) -> dict[str, Any] | None:
    """The meta.json of the job's output; None while it was not written, or belongs to another job."""
    with contextlib.suppress(UsageError):
        meta = read_meta(output_of(job, job_dir))
        return meta if meta and meta["job"] == job.job_id else None
    return None


def read_meta(output: Path) -> dict[str, Any] | None:
    """What Holdfast wrote beside an output; None where nothing of ours lies there."""
    try:
        meta = json.loads(meta_path(output).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return meta if isinstance(meta, dict) and "job" in meta else None
