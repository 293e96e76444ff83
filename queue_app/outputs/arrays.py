"""The vectors of a finished job as one memory-mapped array, beside their ids.

A .npy output is mapped as it lies. For any other output one array is written into the job directory, and
written anew only when the results have changed; `holdfast clean` removes it.
"""

import operator
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
import numpy.typing as npt

from checkpoint.records import QuarantineEntry
from queue_app.array_types import Int64s
from queue_app.errors import Damage
from queue_app.host.durable_files import removed_on_failure, rename_durably, room_for
from queue_app.job.directory import JobDir
from queue_app.job.done_records import all_done, results_digest
from queue_app.job.output_names import ids_path, output_format
from queue_app.job.output_place import exported, output_of
from queue_app.job.quarantine import list_quarantine
from queue_app.job.readouts import column_names, is_ragged
from queue_app.job.result_files import Vectors
from queue_app.job.spec import Job
from queue_app.outputs.content import Content, content_lock
from queue_app.outputs.writers import offsets_path, write_npy, write_ragged_npy

ARRAY = "embeddings.npy"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Ragged:
    """N rows, each with a vector for every residue or token: row i is [L_i, dim], as a view of `values`.

    With several layers row i is [L_i, layers, dim], in their order. Special tokens have no vector.
    """

    values: Vectors
    """[vectors, dim] or [vectors, layers, dim], read-only: those of all rows, end to end."""
    offsets: Int64s
    """[N + 1]: row i has the values from `offsets[i]` to `offsets[i + 1]`."""

    def __len__(self) -> int:
        """N, the number of rows."""
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, place: int) -> Vectors: ...
    @overload
    def __getitem__(self, place: slice) -> "Ragged": ...
    def __getitem__(self, place: int | slice) -> "Vectors | Ragged":
        """The vectors of one row; of a slice the rows in it. Neither copies.

        Raises:
            IndexError: there is no such row.
            ValueError: a slice with a step, whose rows do not lie side by side.
        """
        if isinstance(place, slice):
            return self._between(*place.indices(len(self)))
        number = operator.index(place)
        if not -len(self) <= number < len(self):
            raise IndexError(f"row {number} of {len(self)}")
        first, end = self.offsets[number % len(self) :][:2]
        return self.values[first:end]

    def _between(self, start: int, stop: int, step: int) -> "Ragged":
        if step != 1:
            raise ValueError("rows can only be sliced without a step: others do not lie side by side")
        bounds = self.offsets[start : max(start, stop) + 1]
        return Ragged(self.values[bounds[0] : bounds[-1]], bounds - bounds[0])

    def __iter__(self) -> Iterator[Vectors]:
        """The vectors of every row."""
        return (self[place] for place in range(len(self)))

    def __repr__(self) -> str:
        vectors, *dims = self.values.shape
        shape = " x ".join(map(str, dims))
        return f"Ragged({len(self)} rows, {vectors} vectors of {shape} {self.values.dtype})"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Result:
    """What a job computed: row i of `embeddings` is that of `ids[i]`, in the order of the input.

    Records that were set aside have no row; `embedded + quarantined = records read`, always.
    """

    ids: list[str]
    """N ids as the input has them, repeated ones too; a line break inside one is a blank."""
    ordinals: npt.NDArray[np.int64]
    """[N], ascending: the place of each row's record in the input, counted from 0."""
    embeddings: Vectors | Ragged
    """[N, dim], float32 or float16, read-only: only the rows that are looked at are read from the disk.

    With several pools or layers [N, columns, dim]. With `pool="none"` row i is [L_i, dim], a vector for every
    residue or token, and [L_i, columns, dim] with several layers.
    """
    columns: tuple[str, ...]
    """What the columns are, as the other outputs call them: `embedding`, or `embedding_cls`, …"""
    quarantine: tuple[QuarantineEntry, ...]
    """The records without a row: `ordinal`, `id`, `length` in characters, and `reason`."""

    def __len__(self) -> int:
        """N, the number of rows."""
        return len(self.ids)

    def __repr__(self) -> str:
        rows = self.embeddings
        values, length = (rows.values, ["L"]) if isinstance(rows, Ragged) else (rows, [])
        shape = " x ".join([*length, *map(str, values.shape[1:])])
        return f"Result({len(self)} rows of {shape} {values.dtype}, {len(self.quarantine)} quarantined)"


def open_result(job: Job, job_dir: JobDir) -> Result:
    """The vectors of a finished job.

    Raises:
        HoldfastError: shards are not done yet.
        Damage: a result is not the one that was published.
        DiskFull: no room for the array of an output that cannot be mapped.
    """
    key = _results_key(job, job_dir)
    quarantine = tuple(list_quarantine(job_dir))
    num_rows = job.counts.num_records - len(quarantine)
    path = _own_array(job, job_dir, key) or _array(job, job_dir, key)
    ids = ids_path(path).read_text(encoding="utf-8").split("\n")[:-1]
    values: Vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    embeddings: Vectors | Ragged = values
    if is_ragged(job.options):
        embeddings = Ragged(values, np.load(offsets_path(path), allow_pickle=False))
    if not len(ids) == len(embeddings) == num_rows:
        raise Damage(f"{path}: {len(embeddings)} rows and {len(ids)} ids, {num_rows} were published")
    everything = np.arange(job.counts.num_records)
    ordinals = np.delete(everything, [entry.ordinal for entry in quarantine])
    return Result(ids, ordinals, embeddings, column_names(job.options), quarantine)


def _results_key(job: Job, job_dir: JobDir) -> str:
    how_to_go_on = f"wait for the job, or run holdfast resume {job_dir.path}"
    return results_digest(all_done(job, job_dir, how_to_go_on=how_to_go_on))


def _own_array(job: Job, job_dir: JobDir, key: str) -> Path | None:
    """The job's output, where it is a .npy and was written from these results."""
    meta = exported(job, job_dir)
    if meta is None:
        return None
    output = output_of(job, job_dir)
    is_there = output_format(output) == "npy" and output.is_file() and ids_path(output).is_file()
    is_whole = meta.get("precision", "float32") == "float32"  # not codes in the place of vectors
    return output if is_there and is_whole and meta.get("results_digest") == key else None


def _array(job: Job, job_dir: JobDir, key: str) -> Path:
    """The array in the job directory; whoever maps an older one keeps it until he lets go."""
    home = job_dir.array / key
    with content_lock(job_dir):
        if not home.is_dir():
            shutil.rmtree(job_dir.array, ignore_errors=True)
            _write(Content(job, job_dir), home)
    return home / ARRAY


def _write(content: Content, home: Path) -> None:
    """The array and its ids, whole or not at all."""
    making = home.with_suffix(".making")
    making.mkdir(parents=True)
    with room_for(home), removed_on_failure(making):
        if content.is_ragged:
            write_ragged_npy(making / ARRAY, content)
        else:
            write_npy(making / ARRAY, content)
        rename_durably(making, home)
