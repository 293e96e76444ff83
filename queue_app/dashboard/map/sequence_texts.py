"""What the records of a job were, from its shards' files; a job that was cleaned has them no more."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from queue_app.array_types import Int64s
from queue_app.dashboard.map.shards_of_records import shards_with
from queue_app.errors import Damage
from queue_app.job.directory import JobDir
from queue_app.job.result_rows import among
from queue_app.job.spec import Job

BEGINNING_LETTERS = 200


def is_kept(job: Job, job_dir: JobDir) -> bool:
    return bool(job.shards) and job_dir.shard(job.shards[0].index).is_file()


def lengths(job: Job, job_dir: JobDir, rows: Int64s) -> list[int]:
    """Characters of the sequence of each of these rows, which ascend. Raises Damage."""
    return _of_sequences(job, job_dir, rows, pc.utf8_length)


def beginnings(job: Job, job_dir: JobDir, rows: Int64s) -> list[str]:
    """The first letters of the sequence of each of these rows, which ascend. Raises Damage."""
    return _of_sequences(job, job_dir, rows, lambda text: pc.utf8_slice_codeunits(text, 0, BEGINNING_LETTERS))


def sequences(job: Job, job_dir: JobDir, rows: Int64s) -> list[str]:
    """The sequence of each of these rows, which ascend. Raises Damage."""
    return _of_sequences(job, job_dir, rows, lambda text: text)


def _of_sequences(job: Job, job_dir: JobDir, rows: Int64s, tell: Callable[[pa.Array], pa.Array]) -> list[Any]:
    """What `tell` says of each sequence; a shard's file is mapped, so that only what is looked at is read."""
    ordinals, told = [np.empty(0, np.int64)], []
    for shard in shards_with(job, rows):
        try:
            with pa.memory_map(str(job_dir.shard(shard.index))) as mapped:
                table = pa.ipc.open_file(mapped).read_all()
                here = table["ordinal"].to_numpy().astype(np.int64)
                places = np.flatnonzero(among(here, rows))
                told += tell(table["sequence"].take(pa.array(places))).to_pylist()
                ordinals.append(here[places])
        except (pa.ArrowInvalid, OSError) as error:
            raise Damage(f"{job_dir.shard(shard.index)}: cannot be read: {error}") from None
    order = np.argsort(np.concatenate(ordinals))
    if len(order) != len(rows):
        raise Damage(f"{job_dir.shards}: {len(order)} of {len(rows)} records are there")
    return [told[place] for place in order]
