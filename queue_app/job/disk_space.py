"""Whether a job's disks will do: of a kind that checkpoints can lie on, and with room for what is to come.

Only vectors are counted, which nothing makes smaller: a job that is refused would have failed later.
"""

import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.filesize import decimal

from checkpoint.errors import NetworkFileSystem
from checkpoint.network_filesystems import refuse_network_file_system
from queue_app.errors import DiskFull, UsageError
from queue_app.host.limits import require_file_size
from queue_app.job.directory import JobDir
from queue_app.job.done_records import read_done
from queue_app.job.output_names import output_format
from queue_app.job.output_place import output_of
from queue_app.job.readouts import is_ragged, vector_bytes
from queue_app.job.spec import RECORD_COST, Job, Shard
from queue_app.settings import RuntimeConfig


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


def rooms(job: Job, job_dir: JobDir, config: RuntimeConfig, *, num_workers: int) -> list[Room]:
    """Every disk at both of the job's fullest moments: while it computes, and while it writes the output."""
    left = _left(job, job_dir)
    results = Copy("results", job_dir.results, _bytes_of(job, left))
    stores = job_dir.checkpoint(0, job.job_id, config.scratch).parent
    kept = job.run.keep_checkpoints if config.keep_checkpoints is None else config.keep_checkpoints
    under_way = sorted(left, key=lambda shard: -shard.num_rows)[:num_workers]
    stored = left if kept and num_workers else under_way
    checkpoints = Copy("checkpoints", stores, _bytes_of(job, stored))
    path = output_of(job, job_dir)
    output = Copy("output", path, 0 if _is_linked(job, job_dir, path) else _output_bytes(job))
    aside = Copy("vectors for twins", job_dir.path, _aside_bytes(job))
    exporting = [results, output, aside, *([checkpoints] if kept else [])]
    return [*_by_disk([results, checkpoints]), *_by_disk(exporting)]


def _largest_files(job: Job, job_dir: JobDir) -> Iterator[tuple[Path, int]]:
    """What is still to be written in one file each."""
    for shard in _left(job, job_dir):
        yield job_dir.result(shard.index, 0), _bytes_of(job, [shard])
    if output_format(output := output_of(job, job_dir)) != "directory":
        yield output, _output_bytes(job)


def _left(job: Job, job_dir: JobDir) -> list[Shard]:
    """The shards without a result; what is in one was looked at before."""
    done = {shard.index: read_done(job_dir, shard) for shard in job.shards}
    there = {index for index, record in done.items() if record and (job_dir.results / record.file).is_file()}
    return [shard for shard in job.shards if shard.index not in there]


def _is_linked(job: Job, job_dir: JobDir, output: Path) -> bool:
    """True where the output is a directory of the results themselves, which are linked."""
    as_published = job.twins is None and job.reuse is None
    if output_format(output) != "directory" or not as_published:
        return False
    return _device(output) == _device(job_dir.results)


def _bytes_of(job: Job, shards: Sequence[Shard]) -> int:
    """What the vectors of these shards' rows take, without those that were rejected."""
    num_rows = sum(shard.num_rows for shard in job.shards)
    good = 1 - job.counts.num_rejected / max(1, num_rows)
    return int(good * sum(_num_vectors(job, shard) for shard in shards)) * _vector_bytes(job)


def _output_bytes(job: Job) -> int:
    """What the vectors of all good records take, duplicates included."""
    if is_ragged(job.options):
        vectors = (_num_vectors(job, shard) * shard.num_records / shard.num_rows for shard in job.shards)
        return int(sum(vectors)) * _vector_bytes(job)
    return (sum(shard.num_records for shard in job.shards) - job.counts.num_rejected) * _vector_bytes(job)


def _aside_bytes(job: Job) -> int:
    """What the vectors take that duplicates wait for, each as large as the rows are on average."""
    if job.twins is None:
        return 0
    share = job.twins.num_firsts / sum(shard.num_rows for shard in job.shards)
    return int(share * sum(_num_vectors(job, shard) for shard in job.shards)) * _vector_bytes(job)


def _num_vectors(job: Job, shard: Shard) -> int:
    """At least so many: where every token has one, how many a text has only its tokenizer knows."""
    options = job.options
    if not is_ragged(options) or not job.model.is_read_by_letters:
        return shard.num_rows
    num_letters = shard.cost - RECORD_COST * shard.num_rows
    return num_letters if options.long == "window" else min(num_letters, options.max_length * shard.num_rows)


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


def standing(path: Path) -> Path:
    """The path itself, or what is there of the way to it."""
    return path if path.exists() else standing(path.parent)
