"""Where a job's output goes, and whether what lies there is the job's own to replace.

job.json says where the output was to go at submit, and never changes. What a later run was told instead, and
in which directory, stands in place.json beside it: so a directory that was moved or copied since is known.

An output is known by the card.json beside it, which is written last. Until then a claim in the job directory
says that the job was about to write there: a run that was killed meanwhile finds its own half-written files,
and nobody takes the card of what was there before for that of what is being written.
"""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from queue_app.errors import OtherVersion, UsageError
from queue_app.host.durable_files import write_durably
from queue_app.host.own_files import NotOurs, write_own
from queue_app.job.directory import (
    ENDING,
    JobDir,
    default_directory,
    make_directories,
    refuse_control_characters,
    standing,
)
from queue_app.job.output_names import (
    DIRECTORIES,
    card_paths,
    companions,
    output_format,
    quarantine_path,
    target_of,
)
from queue_app.job.spec import Job

OF_ANOTHER_PLACE = ("server.json", "processes.json")
"""What a copy must not take for its own: the server and the processes of the directory it was copied from."""
ANY_MAY_WRITE = 0o222
REMEDY = "move it away or choose another -o; embed, enqueue and export replace it with --overwrite"
CARD_SCHEMA = 1
"""The layout of card.json: one more with every change that a reader of the one before would misunderstand."""
_OF_A_CARD = {"schema", "job", "job_digest", "output"}
_PIECE = re.compile(r"\d{5,}\.parquet")
"""What a directory of ours consists of."""
_OF_LANCE = re.compile(r"data|_versions|_transactions")
"""What a data set of Lance consists of until somebody indexes it or deletes rows."""


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


def take_place(job_dir: JobDir, output: Path) -> None:
    """Note where a run goes on, and where it was told to write; the caller holds the directory's lock."""
    make_directories(output.absolute().parent)
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
            write_own(owner, "")


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


def noted_output(job: Job, job_dir: JobDir) -> Path:
    """Where a run was told to write the job's output, in this very directory. Raises UsageError where none
    was: a job.json that was copied says where the output of another directory is."""
    place = Place.read(job_dir)
    home = default_directory(Path(job.output))
    if place is None and not (home.is_dir() and home.samefile(job_dir.path)):
        raise UsageError(
            f"{job_dir.path}: no run has noted where this directory's output is to go; say so: "
            f"holdfast resume {job_dir.path} -o OUTPUT"
        )
    return output_of(job, job_dir)


def exported(job: Job, job_dir: JobDir) -> dict[str, Any] | None:
    """The card.json of the job's output, in whatever layout; None while the output is not written, or is
    being written anew, and where it is that of another job."""
    with contextlib.suppress(UsageError):
        output = output_of(job, job_dir)
        card = _read_card(output)
        if card and card["job"] == job.job_id and _name(job_dir, output) not in _claims(job_dir):
            return card
    return None


def exported_card(job: Job, job_dir: JobDir) -> dict[str, Any] | None:
    """The same for whoever looks into it.

    Raises:
        OtherVersion: it was written in a layout that came later.
    """
    card = exported(job, job_dir)
    if card and card["schema"] > CARD_SCHEMA:
        output = output_of(job, job_dir)
        raise OtherVersion(
            f"{card_paths(output)[1]}: written by a newer Holdfast (schema {card['schema']}, this one reads "
            f"{CARD_SCHEMA}); use that one, or holdfast export {job_dir.path} -o {output} writes it anew"
        )
    return card


def _read_card(output: Path) -> dict[str, Any] | None:
    """What Holdfast wrote beside an output; None where nothing of ours lies there."""
    try:
        card = json.loads(card_paths(output)[1].read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    is_ours = isinstance(card, dict) and card.keys() >= _OF_A_CARD and isinstance(card["schema"], int)
    return card if is_ours else None


# ---- what may be written there


def check_output(output: Path) -> None:
    """Refuse what could not be written at the end, before anything is begun.

    Raises:
        UsageError: no name, or one with control characters in it, an unknown format, a directory that is not
            writable or cannot be made, a file where a directory is meant, or the other way round, a directory
            with other things in it, or a link that leads nowhere or is another user's.
    """
    refuse_control_characters(output)
    if not output.name:
        raise UsageError(f"{output}: name an output in it, as in {output / 'out.h5'}")
    kind = output_format(output)
    check_parents(output)
    if not output.exists():
        return
    if output.is_dir() != (kind in DIRECTORIES):
        what = "a directory" if output.is_dir() else "a file"
        raise UsageError(f"{output}: {what} is there already; choose another output")
    if output.is_dir():
        own = _OF_LANCE if kind == "lance" else _PIECE
        others = (path.name for path in output.iterdir() if not own.fullmatch(path.name))
        if other := next(others, None):
            raise UsageError(f"{output}: {other} lies in it, which would be removed; choose another output")
        if len([*output.glob("_versions/*.manifest")]) > 1:
            raise UsageError(
                f"{output}: was changed since it was written, and would be replaced; choose another output"
            )
    elif not output.is_file():
        raise UsageError(f"{output}: neither a file nor a directory; choose another output")
    # Root may write everything; that its owner has made a file read-only counts all the same.
    if not (os.access(output, os.W_OK) and output.stat().st_mode & ANY_MAY_WRITE):
        raise UsageError(f"{output}: is not writable")


def check_parents(output: Path) -> None:
    """Raises UsageError where no file can be made in that place."""
    for parent in _parents(output):
        if not parent.is_dir():
            raise UsageError(f"{output}: {parent} is no directory")
        if not os.access(parent, os.W_OK | os.X_OK):
            raise UsageError(f"{output}: {parent} is not writable")


def _parents(output: Path) -> Iterator[Path]:
    """The directory that the output is named in, or where that is missing the one in which it is to be made;
    and the one that the output lies in where it is a link."""
    yield standing(output.absolute().parent)
    if output.is_symlink():
        try:
            yield target_of(output).parent
        except NotOurs:
            raise
        except (OSError, RuntimeError):
            raise UsageError(f"{output}: a link that leads to itself") from None


def refuse_foreign(output: Path, job_dir: JobDir, job_id: str | None) -> None:
    """Make sure that nothing is replaced but what this job wrote. `job_id` None: the job is yet to be made.

    Raises:
        UsageError: names what lies there.
    """
    if is_claimed(job_dir, output):
        return
    card = _read_card(output)
    if card is not None and card["job"] == job_id:
        return
    if _holds_anything(output):
        whose = f"the output of job {card['job']}" if card else "not written by this job"
        raise UsageError(f"{output}: is there already, {whose}; {REMEDY}")
    if card is None:
        for path in beside(output):
            if path.exists():
                raise UsageError(f"{path}: is there already, and {output} would replace it; {REMEDY}")


def written_before(output: Path, job_id: str) -> list[Path]:
    """Which of its companions this job's output at this place has; none where there is none of it.

    Only names of ours are answered, whatever a card says: what is answered may be removed.
    """
    card = _read_card(output)
    if card is None or card["job"] != job_id:
        return []
    return [path for path in companions(output) if path.name in card["output"].get("files", ())]


def _holds_anything(output: Path) -> bool:
    """An empty directory is a place for an output like none at all."""
    return any(output.iterdir()) if output.is_dir() else output.exists()


def beside(output: Path) -> Iterator[Path]:
    """What is written beside an output."""
    yield from (*companions(output), quarantine_path(output), *card_paths(output))


def remove_former_meta(output: Path, job_id: str) -> None:
    """Remove what an earlier version wrote beside its output, `.meta.json`, where it is this job's."""
    path = output.with_name(output.name + ".meta.json")
    with contextlib.suppress(FileNotFoundError, ValueError, TypeError, KeyError):
        if json.loads(path.read_bytes())["job"] == job_id:
            path.unlink()


# ---- claims


def claim(job_dir: JobDir, output: Path) -> None:
    """Note, durably, that whatever lies at this place from now on is the job's to replace."""
    _write_claims(job_dir, _claims(job_dir) | {_name(job_dir, output)})


def is_claimed(job_dir: JobDir, output: Path) -> bool:
    """True where a run of this job was about to write there, and was killed."""
    return _name(job_dir, output) in _claims(job_dir)


def give_up_claim(job_dir: JobDir, output: Path) -> None:
    """The output is written, and its card.json tells whose it is."""
    _write_claims(job_dir, _claims(job_dir) - {_name(job_dir, output)})


def _name(job_dir: JobDir, output: Path) -> str:
    """Relative, so that it holds where both are moved together; by real paths, so that it is the same for
    whoever came there by a link."""
    home = output.absolute().parent.resolve()
    return os.path.relpath(home / output.name, job_dir.path.resolve())


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
