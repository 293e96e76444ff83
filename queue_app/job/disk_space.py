"""Whether a job's disks will do: of a kind that checkpoints can lie on, and with room for what is to come.

Only vectors are counted, which nothing makes smaller: a job that is refused would have failed later.
"""

import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.filesize import decimal

from checkpoint.errors import NetworkFileSystem
from checkpoint.network_filesystems import refuse_network_file_system
from queue_app.array_types import Int64s
from queue_app.errors import DiskFull, UsageError
from queue_app.host.limits import require_file_size
from queue_app.job.directory import JobDir, standing
from queue_app.job.done_records import begun, read_done
from queue_app.job.output_names import output_format
from queue_app.job.output_place import output_of
from queue_app.job.readouts import is_contacts, is_ragged, vector_bytes, written_bytes
from queue_app.job.spec import RECORD_COST, Job
from queue_app.settings import RuntimeConfig, runtime_config


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy of vectors that is still to be written, and where."""

    name: str
    path: Path
    num_bytes: int


@dataclass(frozen=True, slots=True)
class Room:
    """What is to be written to one disk at the same time, and what is free there."""

    path: Path
    copies: Sequence[Copy]
    free_bytes: int

    @property
    def num_bytes(self) -> int:
        return sum(copy.num_bytes for copy in self.copies)

    @property
    def is_enough(self) -> bool:
        return self.num_bytes <= self.free_bytes

    def __str__(self) -> str:
        copies = ", ".join(f"{copy.name} {decimal(copy.num_bytes)}" for copy in self.copies)
        return f"{self.path}: needs {decimal(self.num_bytes)} ({copies}), {decimal(self.free_bytes)} are free"


def require_local_disk(checkpoints: Path) -> None:
    """Raises UsageError at once, where every shard would fail with it."""
    try:
        refuse_network_file_system(checkpoints)
    except NetworkFileSystem as error:
        raise UsageError(str(error)) from None


def require_room(job: Job, job_dir: JobDir, config: RuntimeConfig, *, num_workers: int) -> None:
    """Raises DiskFull or LimitTooLow, before anything is computed, when what is left of the job cannot fit.

    `num_workers` counts those that keep their checkpoints on the disks of this host.
    """
    for path, num_bytes in _largest_files(job, job_dir):
        require_file_size(path, num_bytes)
    for room in rooms(job, job_dir, config, num_workers=num_workers):
        if not room.is_enough:
            raise DiskFull(f"{room}; make room and run the same command again")


def require_room_of_queues(job: Job, job_dir: JobDir, *, num_queues: int) -> None:
    """The same for a job that is handed to so many queues, whose workers may be on this host."""
    config = runtime_config()
    # A scratch directory is each worker's own, and may be large where this host's is small.
    require_room(job, job_dir, config, num_workers=num_queues if config.scratch is None else 0)


def rooms(job: Job, job_dir: JobDir, config: RuntimeConfig, *, num_workers: int) -> list[Room]:
    """Every disk at both of the job's fullest moments: while it computes, and while it writes the output."""
    left = _num_vectors(job)[_left(job, job_dir)]
    results = Copy("results", job_dir.results, _bytes_of(job, left))
    stores = job_dir.checkpoint(0, job.job_id, config.scratch).parent
    kept = job.run.keep_checkpoints if config.keep_checkpoints is None else config.keep_checkpoints
    under_way = np.sort(left)[::-1][:num_workers]
    stored = left if kept and num_workers else under_way
    checkpoints = Copy("checkpoints", stores, _bytes_of(job, stored))
    path = output_of(job, job_dir)
    output = Copy("output", path, 0 if _is_linked(job, job_dir, path) else _output_bytes(job))
    aside = Copy("vectors of duplicates", job_dir.path, _aside_bytes(job))
    exporting = [results, output, aside, *([checkpoints] if kept else [])]
    return [*_by_disk([results, checkpoints]), *_by_disk(exporting)]


def _largest_files(job: Job, job_dir: JobDir) -> Iterator[tuple[Path, int]]:
    """The largest of what is still to be written in one file each."""
    left = _left(job, job_dir)
    if len(left):
        num_vectors = _num_vectors(job)[left]
        largest = int(num_vectors.argmax())
        yield job_dir.result(int(left[largest]), 0), _bytes_of(job, num_vectors[[largest]])
    if output_format(output := output_of(job, job_dir)) != "directory":
        yield output, _output_bytes(job)


def _left(job: Job, job_dir: JobDir) -> Int64s:
    """The shards without a result; what is in one was looked at before."""
    is_left = np.ones(len(job.shards), np.bool_)
    for shard in begun(job, job_dir):
        record = read_done(job_dir, shard)
        is_left[shard.index] = record is None or not (job_dir.results / record.file).is_file()
    return np.flatnonzero(is_left)


def _is_linked(job: Job, job_dir: JobDir, output: Path) -> bool:
    """True where the output is a directory of the results themselves, which are linked."""
    as_published = job.twins is None and job.reuse is None and job.kept is None
    if output_format(output) != "directory" or not as_published:
        return False
    return _device(output) == _device(job_dir.results)


def _bytes_of(job: Job, num_vectors: Int64s) -> int:
    """What so many vectors of these shards take, without those that were rejected."""
    good = 1 - job.counts.num_rejected / max(1, int(job.shards.num_rows.sum()))
    return int(good * int(num_vectors.sum())) * _vector_bytes(job)


def _output_bytes(job: Job) -> int:
    """What the vectors of all good records take, duplicates included."""
    num_records = job.shards.columns["num_records"]
    if is_ragged(job.options):
        vectors = _num_vectors(job) * num_records / job.shards.num_rows
        return int(vectors.sum()) * _vector_bytes(job)
    each = written_bytes(job.model, job.options, job.run.precision)
    return (int(num_records.sum()) - job.counts.num_rejected) * each


def _aside_bytes(job: Job) -> int:
    """What the vectors take that duplicates wait for, each as large as the rows are on average."""
    if job.twins is None:
        return 0
    share = job.twins.num_firsts / int(job.shards.num_rows.sum())
    return int(share * int(_num_vectors(job).sum())) * _vector_bytes(job)


def _num_vectors(job: Job) -> Int64s:
    """Of each shard, at least so many: how many tokens a text has, only its tokenizer knows."""
    options, num_rows = job.options, job.shards.num_rows
    if not is_ragged(options) or not job.model.is_read_by_letters:
        return num_rows
    num_letters: Int64s = job.shards.columns["cost"] - RECORD_COST * num_rows
    if is_contacts(options):
        # The mean of squares is no less than the square of the mean. Which records are too long and have no
        # map is not known of a shard: half is left to them.
        kept = np.minimum(num_letters, options.max_length * num_rows)
        return kept**2 // (num_rows * (2 if options.long == "error" else 1))
    return num_letters if options.long == "window" else np.minimum(num_letters, options.max_length * num_rows)


def _vector_bytes(job: Job) -> int:
    return vector_bytes(job.model, job.options)


def _by_disk(copies: Sequence[Copy]) -> Iterator[Room]:
    on_disk: dict[int, list[Copy]] = defaultdict(list)
    for copy in copies:
        if copy.num_bytes:
            on_disk[_device(copy.path)].append(copy)
    for found in on_disk.values():
        path = standing(found[0].path)
        yield Room(path, found, shutil.disk_usage(path).free)


def _device(path: Path) -> int:
    return standing(path).stat().st_dev
