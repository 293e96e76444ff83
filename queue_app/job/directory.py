"""A job directory: the names of everything in it, its job.json, its lock, and how it is found."""

import contextlib
import json
import os
import re
import shutil
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from checkpoint.store_files import make_directory
from queue_app.errors import Damage, JobNotFound, OtherVersion, UsageError
from queue_app.host.durable_files import room_for, write_durably
from queue_app.host.file_lock import FileLock
from queue_app.host.own_files import (
    directory_mode,
    make_inner_directory,
    require_trusted_directory,
    share,
    write_own,
)
from queue_app.job.spec import Job
from queue_app.shown import visible

JOB_SCHEMA = 6
PLANNER_VERSION = 3
FLEET_ID = re.compile("[0-9a-f]{16}")
SETTLED_NS = 2_000_000_000
REMEMBERED_MOST = 16
INCOMING = "incoming"
ENDING = ".holdfast"


@dataclass(frozen=True, slots=True)
class _Versions:
    """The part of job.json that every version can read."""

    schema_version: int
    planner_version: int

    def __str__(self) -> str:
        return f"planner {self.planner_version}, job schema {self.schema_version}"


@dataclass(frozen=True, slots=True)
class _Stamp:
    """What tells a file from the one that was there before."""

    modified_ns: int
    number: int
    size: int

    @classmethod
    def of(cls, found: os.stat_result) -> "_Stamp":
        return cls(found.st_mtime_ns, found.st_ino, found.st_size)

    def is_settled(self) -> bool:
        """Whether a later file would have a later time: clocks of file systems tick only every few ms."""
        return time.time_ns() - self.modified_ns > SETTLED_NS


_JOB = TypeAdapter(Job)
_VERSIONS = TypeAdapter(_Versions)
_read_before: dict[Path, tuple[_Stamp, Job]] = {}
"""Of this process, by job directory: a worker asks for its job before every shard."""


def _remember(path: Path, stamp: _Stamp, job: Job) -> None:
    _read_before.pop(path, None)
    while len(_read_before) >= REMEMBERED_MOST:
        del _read_before[next(iter(_read_before))]
    _read_before[path] = stamp, job


class _Entry:
    """A file or folder of a job directory."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, job_dir: "JobDir", owner: object = None) -> Path:
        return job_dir.path / self.name


@dataclass(frozen=True, slots=True)
class JobDir:
    """Where everything of a job lies. Mostly names: only `load`, `write` and `hold` touch the disk."""

    path: Path

    job_json = _Entry("job.json")
    table = _Entry("shards.table")
    """The shards' sizes and digests, a row each (shard_table.py)."""
    place = _Entry("place.json")
    """Where the job was run last, and where its output was to go then."""
    claims = _Entry("claims.json")
    """Outputs that the job is about to write, or may replace."""
    tokenizer = _Entry("tokenizer.json")
    """The model's tokenizer as it was made at submit, where the model has one."""
    server_json = _Entry("server.json")
    fleet_json = _Entry("fleet.json")
    """Which fleet the job belongs to: no other takes it for one that its server has forgotten."""
    model_place = _Entry("model_path.json")
    """Where the model lies now, when that is not where job.json says it was (model_place.py)."""
    held = _Entry("held")
    """There while the job is paused or cancelled: nobody may start it again by himself."""
    kind = _Entry("kind.json")
    """Of a job that only one kind of device may compute: which. It is created once, and never replaced."""
    certificate = _Entry("certificate.json")
    """Of a job in int8: how near to float32 its records were seen to be. Created once, and never replaced."""
    logs = _Entry("logs")
    piped = _Entry("piped")
    """What came through pipes, while it is read."""
    shards = _Entry("shards")
    results = _Entry("results")
    dones = _Entry("done")
    history = _Entry("history")
    sequences = _Entry("sequences.arrow")
    """Ordinal and content hash of every row of every shard: what a later job finds vectors by."""
    twins = _Entry("twins.arrow")
    kept = _Entry("kept.parquet")
    """What stays with the records beside their ids, where anything does (kept_columns.py)."""
    aside = _Entry(".aside.arrow")
    """The vectors that duplicates wait for while an output is written."""
    array = _Entry("array")
    """The vectors as one array, where somebody asked for them and the output is no .npy."""

    @property
    def incoming(self) -> "JobDir":
        """What a producer is about to put in the place of this one. With a job.json it is complete."""
        return JobDir(self.path / INCOMING)

    def shard(self, index: int) -> Path:
        return self.shards / f"{index:05d}.arrow"

    def result(self, index: int, token: int) -> Path:
        return self.results / f"{index:05d}-{token}.parquet"

    def done(self, index: int, generation: int = 0) -> Path:
        """The done record that is published in this generation of the shard, which begins with the first."""
        return self.dones / (f"{index:05d}-{generation}.json" if generation else f"{index:05d}.json")

    def reopened(self, index: int, generation: int) -> Path:
        """Empty; says that this generation of the shard, the second or a later one, has begun."""
        return self.dones / f"{index:05d}-{generation}.begun"

    def checkpoint(self, index: int, job_id: str, scratch: Path | None) -> Path:
        """The shard's LMDB environment; under `scratch` it needs the job's id to be unique."""
        home = self.path / "checkpoints" if scratch is None else scratch / job_id
        return home / f"{index:05d}.lmdb"

    def hold(self, state: Literal["paused", "cancelled"]) -> None:
        """Note that the job is to rest, where this host can see its directory."""
        if self.path.is_dir():
            write_own(self.held, state)

    def fleet(self) -> str | None:
        """The fleet that the job belongs to; None where nobody said so yet."""
        try:
            found = json.loads(self.fleet_json.read_text())["fleet"]
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return found if isinstance(found, str) and FLEET_ID.fullmatch(found) else None

    def load(self) -> Job:
        """The job that job.json holds; read again only when the file is another one than last time.

        Its size does not depend on the number of shards, and none of these is read.

        Raises:
            JobNotFound: there is none, so nothing was submitted here.
            Damage: the file is not what `write` wrote.
            OtherVersion: it was planned by another version, whose batches this one would cut differently.
        """
        try:
            # Opened, not only looked at: NFS answers stat from memory, and asks its server at each opening.
            with self.job_json.open("rb") as file:
                stamp = _Stamp.of(os.fstat(file.fileno()))
                known = _read_before.get(self.path)
                if known is not None and known[0] == stamp:
                    return known[1]
                job = self._decode(file.read())
        except (FileNotFoundError, NotADirectoryError):
            raise JobNotFound(f"{self.path}: no job here (no job.json)") from None
        if stamp.is_settled():
            _remember(self.path, stamp, job)
        return job

    def _decode(self, content: bytes) -> Job:
        try:
            theirs, ours = _VERSIONS.validate_json(content), _Versions(JOB_SCHEMA, PLANNER_VERSION)
            if theirs != ours:
                raise OtherVersion(
                    f"{self.path}: planned by another version of Holdfast ({theirs}; this one: {ours}); run "
                    "that one, or use --overwrite"
                )
            job = _JOB.validate_json(content)
        except ValidationError as error:
            raise Damage(f"{self.job_json}: not a readable job: {error.errors()[0]['msg']}") from None
        return replace(job, shards=job.shards.at(job.job_id, self.table))

    def load_or_none(self) -> Job | None:
        """The job, where there is one that this version can read."""
        try:
            return self.load()
        except (JobNotFound, Damage, OtherVersion):
            return None

    def write(self, job: Job) -> None:
        """Write shards.table and then job.json, durably: a reader of job.json sees all of both or none."""
        write_durably(self.table, job.shards.content())
        write_durably(self.job_json, _JOB.dump_json(job, indent=1))


def default_directory(output: Path) -> Path:
    """Where the job of an output lies unless somebody chose another place."""
    return output.parent / f"{output.name}{ENDING}"


def find_job_directory(path: Path) -> JobDir:
    """Raises JobNotFound when neither the path nor `<path>.holdfast` holds a job."""
    return job_and_output(path)[0]


def job_and_output(path: Path) -> tuple[JobDir, Path | None]:
    """The job, and its output where the path names that; None where it is the job directory.

    Raises:
        JobNotFound: it is neither.
        NotOurs: another user could have put there what the job directory holds.
    """
    refuse_control_characters(path)
    for candidate, output in ((path, None), (default_directory(path), path)):
        directory = JobDir(candidate.absolute())
        if directory.job_json.is_file():
            require_trusted_directory(directory.path)
            return directory, output
    raise JobNotFound(f"{path}: no job here (neither a job directory nor an output of one)")


@contextlib.contextmanager
def locked_job_directory(job_dir: JobDir, *, wait: bool = False) -> Iterator[None]:
    """Make the directory where it is missing, and hold its lock.

    One that was made for a job that did not come to be is gone again afterwards.

    Raises:
        UsageError: it is a file, cannot be made, or another user could have put there what it holds.
        JobBusy: another process works on it, and `wait` is false.
    """
    if job_dir.path.is_file():
        raise UsageError(f"{job_dir.path}: a file; a job directory is made where there is nothing yet")
    above = standing(job_dir.path.parent)
    made, lock = _make_and_lock(job_dir.path, wait=wait)
    try:
        yield
    finally:
        if made and not job_dir.job_json.exists():
            shutil.rmtree(job_dir.path)
            _remove_empty(job_dir.path.parent, above)
        lock.release()


def _make_and_lock(path: Path, *, wait: bool) -> tuple[bool, FileLock]:
    while True:
        made = not path.exists()
        make_directories(path, directory_mode())
        if made:
            share(path)
        require_trusted_directory(path)
        lock = FileLock(path / "lock", wait=wait)
        with contextlib.suppress(FileNotFoundError):
            lock.acquire()
            return made, lock


def make_directories(path: Path, mode: int = 0o777) -> None:
    """Make a directory, and those above it that are missing, durably. `mode`, less the umask, is that of the
    directory itself. Raises UsageError where it fails."""
    try:
        with room_for(path):
            make_directory(path, mode)
    except OSError as error:
        raise UsageError(f"{path}: this directory cannot be made: {error.strerror}") from None


def refuse_control_characters(path: Path | str) -> None:
    """Raises UsageError for a name that no line of a log, a table or a configuration could hold."""
    if any(unicodedata.category(letter) == "Cc" for letter in str(path)):
        raise UsageError(f"{visible(str(path))}: a name with a control character in it; rename it")


def standing(path: Path) -> Path:
    """The path itself, or the nearest directory above it that is there."""
    return path if path.exists() else standing(path.parent)


def _remove_empty(path: Path, above: Path) -> None:
    """A directory and those over it, up to one that was there before, unless something lies in them."""
    with contextlib.suppress(OSError):
        while path != above:
            path.rmdir()
            path = path.parent


def make_place_of_store(store: Path) -> None:
    """Make the directory that a shard's store is to lie in. Raises NotOurs where others can write into it."""
    make_inner_directory(store.parent)
    require_trusted_directory(store.parent)
