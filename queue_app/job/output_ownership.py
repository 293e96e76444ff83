"""Whose an output is: what lies at its place is replaced only where it is the job's own.

An output is known by the meta.json beside it, which is written last. Until then a claim in the job directory
says that the job was about to write there: a run that was killed meanwhile finds its own half-written files.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

from queue_app.errors import UsageError
from queue_app.host.durable_files import write_durably
from queue_app.job.directory import JobDir
from queue_app.job.output_names import (
    card_paths,
    holds_other_than_output,
    ids_path,
    meta_path,
    output_format,
    quarantine_path,
    target_of,
)
from queue_app.job.place import read_meta

ANY_MAY_WRITE = 0o222
REMEDY = "move it away or choose another -o; embed, enqueue and export replace it with --overwrite"


def refuse_foreign(output: Path, job_dir: JobDir, job_id: str | None) -> None:
    """Make sure that nothing is replaced but what this job wrote. `job_id` None: the job is yet to be made.

    Raises:
        UsageError: names what lies there.
    """
    if _name(job_dir, output) in _claims(job_dir):
        return
    meta = read_meta(output)
    if meta is not None and meta["job"] == job_id:
        return
    if _holds_anything(output):
        whose = f"the output of job {meta['job']}" if meta else "not written by this job"
        raise UsageError(f"{output}: is there already, {whose}; {REMEDY}")
    if meta is None or "content_digest" not in meta:
        for path in _beside(output):
            if path.exists():
                raise UsageError(f"{path}: is there already, and {output} would replace it; {REMEDY}")


def check_output(output: Path) -> None:
    """Refuse what could not be written at the end, before anything is begun.

    Raises:
        UsageError: no name, an unknown format, a directory that is not there or not writable, a file where a
            directory is meant, or the other way round, a directory with other things in it, or a link that
            leads nowhere.
    """
    if not output.name:
        raise UsageError(f"{output}: name an output in it, as in {output / 'out.h5'}")
    kind = output_format(output)
    for parent in _parents(output):
        if not parent.is_dir():
            raise UsageError(f"{output}: {parent} is no directory; make it first")
        if not os.access(parent, os.W_OK | os.X_OK):
            raise UsageError(f"{output}: {parent} is not writable")
    if output.exists() and output.is_dir() != (kind == "directory"):
        what = "a directory" if output.is_dir() else "a file"
        raise UsageError(f"{output}: {what} is there already; choose another output")
    if output.is_dir() and (other := holds_other_than_output(output)):
        raise UsageError(f"{output}: {other} lies in it, which would be removed; choose another output")
    if output.exists() and not (output.is_file() or output.is_dir()):
        raise UsageError(f"{output}: neither a file nor a directory; choose another output")
    # Root may write everything; that its owner has made a file read-only counts all the same.
    if output.exists() and not (os.access(output, os.W_OK) and output.stat().st_mode & ANY_MAY_WRITE):
        raise UsageError(f"{output}: is not writable")


def _parents(output: Path) -> Iterator[Path]:
    """The directory that the output is named in, and the one that it lies in where that is a link."""
    yield output.absolute().parent
    if output.is_symlink():
        try:
            yield target_of(output).parent
        except (OSError, RuntimeError):
            raise UsageError(f"{output}: a link that leads to itself") from None


def claim(job_dir: JobDir, output: Path) -> None:
    """Note, durably, that whatever lies at this place from now on is the job's to replace."""
    _write_claims(job_dir, _claims(job_dir) | {_name(job_dir, output)})


def give_up_claim(job_dir: JobDir, output: Path) -> None:
    """The output is written, and its meta.json tells whose it is."""
    _write_claims(job_dir, _claims(job_dir) - {_name(job_dir, output)})


def _holds_anything(output: Path) -> bool:
    """An empty directory is a place for an output like none at all."""
    return any(output.iterdir()) if output.is_dir() else output.exists()


def _beside(output: Path) -> Iterator[Path]:
    """What is written beside an output."""
    if output_format(output) == "npy":
        yield ids_path(output)
    yield from (meta_path(output), quarantine_path(output), *card_paths(output))


def _name(job_dir: JobDir, output: Path) -> str:
    """Relative, so that it holds where both are moved together."""
    return os.path.relpath(output.absolute(), job_dir.path)


def _claims(job_dir: JobDir) -> frozenset[str]:
    try:
        return frozenset(json.loads(job_dir.claims.read_text()))
    except (OSError, ValueError, TypeError):
        return frozenset()


def _write_claims(job_dir: JobDir, claims: frozenset[str]) -> None:
    if claims:
        write_durably(job_dir.claims, json.dumps(sorted(claims)).encode())
    else:
        job_dir.claims.unlink(missing_ok=True)
