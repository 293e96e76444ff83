"""The vectors of a finished job as one memory-mapped array, beside their ids.

A .npy output is mapped as it lies. For any other output one array is written into the job directory, and
written anew only when the results have changed; `holdfast clean` removes it.
"""

import shutil
from pathlib import Path

import numpy as np

from queue_app.errors import Damage
from queue_app.host.durable_files import removed_on_failure, rename_durably, room_for
from queue_app.host.own_files import make_inner_directory
from queue_app.job.directory import JobDir
from queue_app.job.done_records import all_done, results_digest
from queue_app.job.kept_columns import open_kept
from queue_app.job.output_names import ids_path, output_format
from queue_app.job.output_place import exported_card, output_of
from queue_app.job.quarantine import list_quarantine
from queue_app.job.readouts import column_names, is_contacts, is_ragged
from queue_app.job.result_files import Vectors
from queue_app.job.spec import Job
from queue_app.outputs.contacts import Contacts
from queue_app.outputs.content import Content, content_lock, provenance
from queue_app.outputs.formats.writers import offsets_path, write_npy, write_ragged_npy
from queue_app.outputs.ragged import Ragged
from queue_app.outputs.result import Result

ARRAY = "embeddings.npy"


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
    rows: Vectors | Ragged = values
    if is_ragged(job.options):
        kind = Contacts if is_contacts(job.options) else Ragged
        rows = kind(values, np.load(offsets_path(path), allow_pickle=False))
    if not len(ids) == len(rows) == num_rows:
        raise Damage(f"{path}: {len(rows)} rows and {len(ids)} ids, {num_rows} were published")
    everything = np.arange(job.counts.num_records)
    ordinals = np.delete(everything, [entry.ordinal for entry in quarantine])
    made_by, kept = provenance(job, num_rows), open_kept(job, job_dir)
    return Result(ids, ordinals, rows, column_names(job.options), quarantine, made_by, kept)


def _results_key(job: Job, job_dir: JobDir) -> str:
    how_to_go_on = f"wait for the job, or run holdfast resume {job_dir.path}"
    return results_digest(all_done(job, job_dir, how_to_go_on=how_to_go_on))


def _own_array(job: Job, job_dir: JobDir, key: str) -> Path | None:
    """The job's output, where it is a .npy and was written from these results."""
    card = exported_card(job, job_dir)
    if card is None:
        return None
    output = output_of(job, job_dir)
    is_there = output_format(output) == "npy" and output.is_file() and ids_path(output).is_file()
    is_whole = card["output"].get("precision", "float32") == "float32"  # not codes in the place of vectors
    return output if is_there and is_whole and card["output"]["results_digest"] == key else None


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
    make_inner_directory(making)
    with room_for(home), removed_on_failure(making):
        if content.is_ragged:
            write_ragged_npy(making / ARRAY, content)
        else:
            write_npy(making / ARRAY, content)
        rename_durably(making, home)
