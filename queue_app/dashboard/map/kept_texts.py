"""What the input said of the records beside their sequences, as far as the job has kept it."""

from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from queue_app.array_types import Int64s
from queue_app.job.directory import JobDir
from queue_app.job.duplicates import check_digest
from queue_app.job.kept_columns import KeptColumns
from queue_app.job.spec import Job

DESCRIPTION = "description"
"""The column that stands beside a point, where there is one."""


def kept_names(job: Job) -> tuple[str, ...]:
    return job.kept.columns if job.kept else ()


def kept_rows(job: Job, job_dir: JobDir, ordinals: Int64s) -> pa.Table | None:
    """All that was kept of these records; None where nothing was. Raises Damage."""
    kept = _opened(job, job_dir)
    return None if kept is None else kept.rows(ordinals)


def kept_strings(job: Job, job_dir: JobDir, ordinals: Int64s) -> dict[str, pa.Array]:
    """The columns of text among them, in which a search looks. Raises Damage."""
    kept = _opened(job, job_dir)
    if kept is None:
        return {}
    names = [name for name in kept.names if pa.types.is_string(kept.schema.field(name).type)]
    return {
        name: column.combine_chunks() for name, column in zip(names, kept.rows(ordinals, names), strict=True)
    }


def descriptions(job: Job, job_dir: JobDir, ordinals: Int64s) -> pa.Array | None:
    """That of each of these records; None where there are none. Raises Damage."""
    kept = _opened(job, job_dir)
    if kept is None or DESCRIPTION not in kept.names:
        return None
    return pc.cast(kept.rows(ordinals, [DESCRIPTION])[DESCRIPTION], pa.string()).combine_chunks()


def kept_values(job: Job, job_dir: JobDir, name: str, ordinals: Int64s) -> pa.Array:
    """One column to colour by: numbers as float64, all else as text. Raises Damage."""
    kept = _opened(job, job_dir)
    assert kept is not None
    values = kept.rows(ordinals, [name])[name].combine_chunks()
    is_number = pa.types.is_integer(values.type) or pa.types.is_floating(values.type)
    return pc.cast(values, pa.float64() if is_number else pa.string(), safe=False)


def _opened(job: Job, job_dir: JobDir) -> KeptColumns | None:
    return _checked(job_dir.kept, job.kept.digest) if job.kept else None


@lru_cache(maxsize=8)
def _checked(path: Path, digest: str) -> KeptColumns:
    """Opened once: its digest is that of the whole file."""
    check_digest(path, digest)
    return KeptColumns(path)
