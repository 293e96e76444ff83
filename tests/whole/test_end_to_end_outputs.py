"""Every format and precision as the output of whole jobs, also after a crash, and the index of one."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from sentence_transformers.util import quantize_embeddings

from tests.support.command_runs import holdfast, running, wait_for_progress
from tests.support.jobs_and_inputs import write_fasta
from tests.support.output_files import files_of, ids_of, ragged_rows_of, vectors_of
from tests.support.waiting import wait_for

NUM_RECORDS = 120
NEW = ["out.npz", "out.safetensors", "out.h5ad", "out.lance"]
KILLED = "out.npz"
CPU = ["--device", "cpu", "--workers", "1", "--toks-per-batch", "512"]
SLOW = ["-m", "mock:8,delay_ms=60", "--commit-seconds", "0.2"]


@pytest.fixture(scope="module")
def fasta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fasta(tmp_path_factory.mktemp("input") / "proteins.fasta", NUM_RECORDS)


@pytest.fixture(scope="module")
def undisturbed(fasta: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("undisturbed") / "out.npy"
    holdfast("embed", fasta, "-o", output, "-m", "mock:8", *CPU)
    return output


@pytest.fixture(scope="module")
def killed(fasta: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a job whose worker was killed on the way."""
    output = tmp_path_factory.mktemp("killed") / KILLED
    with running("embed", fasta, "-o", output, *SLOW, *CPU) as job:
        seen = wait_for_progress(Path(f"{output}.holdfast"), 0.2, job)
        os.kill(seen["workers"][0]["child_pid"], signal.SIGKILL)
        assert job.wait(timeout=120) == 0
    return output


@pytest.mark.parametrize("name", NEW)
def test_a_job_whose_worker_was_killed_has_the_output_of_an_undisturbed_one(
    killed: Path, undisturbed: Path, tmp_path: Path, name: str
) -> None:
    output = killed if name == KILLED else tmp_path / name
    if name != KILLED:
        holdfast("export", f"{killed}.holdfast", "-o", output)
    assert ids_of(output) == [f"p{number}" for number in range(NUM_RECORDS)]
    np.testing.assert_array_equal(vectors_of(output), np.load(undisturbed))
    if name in ("out.npz", "out.safetensors"):
        holdfast("export", undisturbed, "-o", tmp_path / f"again{output.suffix}")
        again = files_of(tmp_path / f"again{output.suffix}")
        assert [path.stat().st_size for path in files_of(output)] == [path.stat().st_size for path in again]


def test_a_job_whose_worker_was_killed_is_sound_and_its_output_its_own_to_replace(
    fasta: Path, killed: Path
) -> None:
    assert holdfast("verify", killed).returncode == 0
    holdfast("embed", fasta, "-o", killed, *SLOW, *CPU)


def test_the_vectors_of_every_token_are_the_same_in_every_format_that_holds_them(
    fasta: Path, tmp_path: Path
) -> None:
    holdfast("embed", fasta, "-o", tmp_path / "out.parquet", "-m", "mock:8", *CPU, "--pool", "none")
    expected = ragged_rows_of(tmp_path / "out.parquet")
    for name in ("out.npz", "out.safetensors", "out.lance"):
        holdfast("export", tmp_path / "out.parquet", "-o", tmp_path / name)
        for own, row in zip(ragged_rows_of(tmp_path / name), expected, strict=True):
            np.testing.assert_array_equal(own, row)
    line = holdfast("export", tmp_path / "out.parquet", "-o", tmp_path / "out.h5ad", expect=2).stderr
    assert "a .h5ad holds no rows of different lengths" in line
    assert line.count("\n") == 1


def test_a_worker_that_ends_an_enqueued_job_writes_it_as_it_was_asked_for(
    fasta: Path, undisturbed: Path, tmp_path: Path, server_url: str
) -> None:
    output, broker = tmp_path / "out.safetensors", {"HOLDFAST_BROKER_URL": server_url}
    asked = ["-m", "mock:8", "--toks-per-batch", "512", "--precision", "int8", "--queues", "cpu0"]
    holdfast("enqueue", fasta, "-o", output, *asked, "--threads", "1", **broker)
    with running("worker", "cpu0", **broker):
        wait_for(Path(f"{output}.card.json").exists, "the output")
    expected = quantize_embeddings(np.load(undisturbed), "int8")
    np.testing.assert_array_equal(vectors_of(output), expected)


def test_codes_of_a_job_and_of_a_later_export_are_the_same(
    fasta: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """The job is not another one for its precision: nothing is computed again."""
    command = ["embed", fasta, "-o", tmp_path / "out.npy", "-m", "mock:8", *CPU]
    holdfast(*command, "--precision", "ubinary")
    expected = quantize_embeddings(np.load(undisturbed), "ubinary")
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected)
    holdfast("export", undisturbed, "-o", tmp_path / "later.npy", "--precision", "ubinary")
    assert (tmp_path / "later.npy").read_bytes() == (tmp_path / "out.npy").read_bytes()
    assert "are done already" in holdfast(*command).stderr
    assert (tmp_path / "out.npy").read_bytes() == undisturbed.read_bytes()


# ---- an index


def test_an_index_lies_beside_the_output_and_finds_its_rows(undisturbed: Path) -> None:
    faiss = pytest.importorskip("faiss")
    said = holdfast("index", undisturbed).stdout
    assert "out.npy.faiss: 120 vectors of 8 numbers, flat, by cosine" in said
    vectors = np.load(undisturbed)
    faiss.normalize_L2(vectors)
    similarities, rows = faiss.read_index(f"{undisturbed}.faiss").search(vectors, 1)
    assert rows[:, 0].tolist() == list(range(NUM_RECORDS))
    assert np.allclose(similarities, 1)
    assert Path(f"{undisturbed}.faiss.ids.txt").read_text() == undisturbed.with_suffix(".ids.txt").read_text()
    assert holdfast("verify", undisturbed).returncode == 0


def answer(*arguments: Any, expect: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(holdfast(*arguments, "--json", expect=expect).stdout)
    return found


def test_an_index_ends_with_the_codes_of_export(tmp_path: Path) -> None:
    fasta = write_fasta(tmp_path / "a.fasta", 20)
    fasta.write_text(fasta.read_text() + ">bad\nM1\n")
    holdfast("embed", fasta, "-o", tmp_path / "out.h5", "-m", "mock:8", *CPU, expect=3)
    told = answer("index", tmp_path / "out.h5", "--metric", "l2", expect=3)
    assert (told["rows"], told["quarantined"], told["metric"]) == (20, 1, "l2")
    assert told["index"] == str(tmp_path / "out.h5.faiss")
    answer("index", tmp_path / "out.h5", "--kind", "hnsw", "--allow-quarantine")
    (tmp_path / "mine.faiss").write_text("years of work")
    refused = holdfast("index", tmp_path / "out.h5", "-o", tmp_path / "mine.faiss", expect=2).stderr
    assert "not written by this job" in refused
    answer("index", tmp_path / "out.h5", "-o", tmp_path / "mine.faiss", "--overwrite", "--allow-quarantine")
    Path(f"{tmp_path / 'out.h5'}.faiss").write_bytes(b"damaged")
    assert "holdfast index again" in holdfast("verify", tmp_path / "out.h5", expect=4).stdout


def test_an_index_beside_its_output_is_no_input(tmp_path: Path) -> None:
    home = tmp_path / "data"
    home.mkdir()
    write_fasta(home / "a.fasta", 5)
    command = ["embed", home, "-o", home / "out.h5", "-m", "mock:8", *CPU]
    holdfast(*command)
    holdfast("index", home / "out.h5")
    holdfast(*command)
    with h5py.File(home / "out.h5") as file:
        assert len(file["ids"]) == 5
