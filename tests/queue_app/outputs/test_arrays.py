"""Rows of different lengths from Python: `Job.result()` of a job that keeps the vector of every token."""

import pickle
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from queue_app import Job, Result
from queue_app.errors import UsageError
from queue_app.job.directory import JobDir
from queue_app.model.reader import find_model
from queue_app.outputs.arrays import open_result
from queue_app.outputs.ragged import Ragged
from tests.support.inline_job import InlineJob, embedded, write_numbered
from tests.support.jobs_and_inputs import make_job, protein, publish

NUMBERS = [*range(40), *range(40), 3, 3, 41]
LENGTHS = [len(protein(number)) for number in NUMBERS]


def rows_of(output: Path, column: str) -> list[bytes]:
    return [np.array(row, "f4").tobytes() for row in pq.read_table(output)[column].to_pylist()]


def result_of(made: InlineJob) -> tuple[Result, Ragged]:
    result = Job(made.job_dir).result()
    return result, result.residues


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    """Proteins of 20 to 120 residues, many of them twice, and one with a digit in it in their midst."""
    path = write_numbered(tmp_path / "a.fasta", NUMBERS[:50], extra=">bad\nM4\n")
    rest = write_numbered(tmp_path / "rest.fasta", NUMBERS[50:]).read_text()
    path.write_text(path.read_text() + rest)
    return path


# ---- the same as the output


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("layers", [(-1,), (1, -1)], ids=str)
def test_windows_twins_and_copied_rows_have_the_bytes_of_the_parquet_output(
    fasta: Path, tmp_path: Path, layers: tuple[int, ...], dtype: str
) -> None:
    options: Any = {"pool": "none", "layers": layers, "store_dtype": dtype, "max_length": 50}
    before = write_numbered(tmp_path / "before.fasta", range(0, 40, 2))
    embedded(tmp_path / "before.parquet", [before], **options)
    made = embedded(tmp_path / "out.parquet", [fasta], reuse=tmp_path / "before.parquet", **options)
    assert made.job.reuse is not None
    assert made.job.twins is not None
    result, rows = result_of(made)
    assert [row.shape[0] for row in rows] == LENGTHS
    assert rows.values.dtype == dtype
    assert result.columns == (
        ("embedding",) if len(layers) == 1 else ("embedding_layer_1", "embedding_layer_3")
    )
    for place, column in enumerate(result.columns):
        own = [np.array(row if len(layers) == 1 else row[:, place], "f4").tobytes() for row in rows]
        assert own == rows_of(tmp_path / "out.parquet", column)


def test_records_that_were_set_aside_have_no_row(fasta: Path, tmp_path: Path) -> None:
    result, rows = result_of(embedded(tmp_path / "out.h5", [fasta], pool="none"))
    assert len(result) == len(rows) == len(result.ids) == len(NUMBERS)
    assert result.ordinals.tolist() == [*range(50), *range(51, len(NUMBERS) + 1)]
    assert [entry.id for entry in result.quarantine] == ["bad"]
    assert repr(result) == "Result(83 rows of L x 8 float32, 1 quarantined)"


def test_a_job_whose_every_record_is_set_aside_has_no_rows(tmp_path: Path) -> None:
    (tmp_path / "a.fasta").write_text(">bad\nM4\n")
    result, rows = result_of(embedded(tmp_path / "out.h5", [tmp_path / "a.fasta"], pool="none"))
    assert (len(result), len(rows), [*rows], rows.values.shape) == (0, 0, [], (0, 8))


def test_rows_are_read_from_the_disk_only_when_they_are_looked_at(fasta: Path, tmp_path: Path) -> None:
    _, rows = result_of(embedded(tmp_path / "out.h5", [fasta], pool="none"))
    assert isinstance(rows.values, np.memmap)
    assert np.shares_memory(rows[7], rows.values)
    with pytest.raises(ValueError, match="read-only"):
        rows[7][0, 0] = 0


def test_it_goes_to_another_process_by_pickle(fasta: Path, tmp_path: Path) -> None:
    result, rows = result_of(embedded(tmp_path / "out.h5", [fasta], pool="none"))
    again = pickle.loads(pickle.dumps(result))
    assert [row.tobytes() for row in again.residues] == [row.tobytes() for row in rows]


def test_a_npy_output_of_such_a_job_stays_refused(fasta: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a \.npy holds no rows of different lengths"):
        embedded(tmp_path / "out.npy", [fasta], pool="none")


# ---- how it comes to lie there


@pytest.mark.parametrize("pool", ["mean", "none"])
def test_two_who_ask_at_once_get_one_array(fasta: Path, tmp_path: Path, pool: str) -> None:
    made = embedded(tmp_path / "out.h5", [fasta], pool=pool)
    start, found = threading.Barrier(4), []

    def ask() -> None:
        start.wait()
        found.append(open_result(made.job, made.job_dir))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(result) for result in found] == [len(NUMBERS)] * 4
    assert len([*made.job_dir.array.iterdir()]) == 1


def test_an_array_that_a_killed_process_began_is_written_anew(fasta: Path, tmp_path: Path) -> None:
    made = embedded(tmp_path / "out.h5", [fasta], pool="none")
    open_result(made.job, made.job_dir)
    (home,) = made.job_dir.array.iterdir()
    (home / "embeddings.ids.txt").unlink()
    home.rename(home.with_suffix(".making"))
    result, _ = result_of(made)
    assert len(result) == len(NUMBERS)
    assert [*made.job_dir.array.iterdir()] == [home]


MEMORY = """
import sys
from pathlib import Path
from queue_app.job.directory import JobDir
from queue_app.outputs.arrays import open_result

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))

job_dir = JobDir(Path(sys.argv[1]))
before = peak()
result = open_result(job_dir.load(), job_dir)
print(result.residues.values.nbytes, peak() - before)
"""


def test_it_is_written_with_a_part_of_it_in_memory(tmp_path: Path) -> None:
    job = make_job(num_shards=10, records_per_shard=64)
    job = replace(job, model=find_model("mock:1024").spec, options=replace(job.options, pool="none"))
    job_dir = JobDir(tmp_path / "job")
    publish(job, job_dir, num_vectors=250)
    ended = subprocess.run(
        [sys.executable, "-c", MEMORY, str(job_dir.path)], capture_output=True, text=True, check=True
    )
    num_bytes, peak = map(int, ended.stdout.split())
    assert num_bytes == 10 * 64 * 250 * 1024 * 4
    assert peak < 0.75 * num_bytes


# ---- Ragged by itself


ROWS = Ragged(np.arange(18, dtype=np.float32).reshape(9, 2), np.array([0, 2, 2, 5, 9]))


def lengths(rows: Ragged) -> list[int]:
    return [len(row) for row in rows]


def test_a_row_is_found_from_either_end_by_any_whole_number() -> None:
    assert lengths(ROWS) == [2, 0, 3, 4]
    assert ROWS[2].tolist() == ROWS[-2].tolist() == ROWS[np.int64(2)].tolist() == [[4, 5], [6, 7], [8, 9]]


@pytest.mark.parametrize("place", [4, -5])
def test_a_row_that_is_not_there_is_an_index_error(place: int) -> None:
    with pytest.raises(IndexError, match=f"row {place} of 4"):
        ROWS[place]


@pytest.mark.parametrize(
    "place", [slice(None), slice(1, 3), slice(-2, None), slice(2, 2), slice(3, 1), slice(4, 9), slice(0, 0)]
)
def test_a_slice_has_the_rows_of_a_list(place: slice) -> None:
    taken = ROWS[place]
    assert [row.tolist() for row in taken] == [row.tolist() for row in [*ROWS][place]]
    assert taken.offsets.tolist() == [0, *np.cumsum(lengths(taken))]
    assert len(taken.values) == taken.offsets[-1]


def test_a_slice_with_a_step_and_a_list_of_places_are_refused() -> None:
    with pytest.raises(ValueError, match="without a step"):
        ROWS[::2]
    with pytest.raises(TypeError):
        ROWS[[0, 1]]  # type: ignore[call-overload]


def test_it_says_what_it_is() -> None:
    assert repr(ROWS) == "Ragged(4 rows, 9 vectors of 2 float32)"
