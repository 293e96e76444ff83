"""Several pools and layers, and the vector of every token, through the whole command."""

import os
import signal
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest

from queue_app.ingest.cut_shards import SHARD_BYTES, shard_cost_most
from queue_app.job.directory import JobDir
from tests.support.command_runs import holdfast, running, wait_for_progress
from tests.support.jobs_and_inputs import protein, write_fasta
from tests.support.output_files import table_of

NUM_RECORDS = 120
CPU = ["--device", "cpu", "--workers", "2"]
EVERY_TOKEN = [*CPU, "--pool", "none", "--layer", "1,-1", "--toks-per-batch", "512"]


@pytest.fixture(scope="module")
def fasta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All proteins but the last are shorter than the limit."""
    path = write_fasta(tmp_path_factory.mktemp("input") / "proteins.fasta", NUM_RECORDS)
    with path.open("a") as file:
        file.write(f">long\n{protein(5) * 30}\n")
    return path


@pytest.fixture(scope="module")
def every_token(fasta: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("every_token") / "out.parquet"
    holdfast("embed", fasta, "-o", output, "-m", "mock:8", *EVERY_TOKEN)
    return output


def lengths(fasta: Path) -> list[int]:
    return [len(line.strip()) for line in fasta.read_text().splitlines() if not line.startswith(">")]


def test_every_residue_has_a_vector_of_each_layer_also_in_windows(fasta: Path, every_token: Path) -> None:
    table = pq.read_table(every_token)
    assert table.column_names == ["id", "description", "embedding_layer_1", "embedding_layer_3"]
    for name in table.column_names[2:]:
        rows = [np.array(row, np.float32) for row in table[name].to_pylist()]
        assert [row.shape for row in rows] == [(length, 8) for length in lengths(fasta)]
        assert all(np.isfinite(row).all() for row in rows)


def test_a_killed_worker_changes_no_byte_of_every_tokens_vectors(
    fasta: Path, every_token: Path, tmp_path: Path
) -> None:
    slow = [*EVERY_TOKEN, "--commit-seconds", "0.2"]
    with running("embed", fasta, "-o", tmp_path / "out.parquet", "-m", "mock:8,delay_ms=60", *slow) as job:
        seen = wait_for_progress(tmp_path / "out.parquet.holdfast", 0.2, job)
        os.kill(seen["workers"][0]["child_pid"], signal.SIGKILL)
        assert job.wait(timeout=120) == 0
    ours, theirs = pq.read_table(tmp_path / "out.parquet"), pq.read_table(every_token)
    assert ours.equals(theirs)
    assert (tmp_path / "out.parquet").read_bytes() == every_token.read_bytes()
    assert holdfast("verify", tmp_path / "out.parquet").returncode == 0
    for job_dir, name in ((tmp_path / "out.parquet", "ours.arrow"), (every_token, "theirs.arrow")):
        holdfast("export", job_dir, "-o", tmp_path / name)
    assert (tmp_path / "ours.arrow").read_bytes() == (tmp_path / "theirs.arrow").read_bytes()


def test_every_format_holds_the_same_tokens(every_token: Path, tmp_path: Path) -> None:
    job_dir = f"{every_token}.holdfast"
    expected = [
        np.array(row, np.float32) for row in pq.read_table(every_token)["embedding_layer_3"].to_pylist()
    ]
    holdfast("export", job_dir, "-o", tmp_path / "out.h5")
    with h5py.File(tmp_path / "out.h5") as file:
        bounds = file["offsets"][:].tolist()
        for (first, end), row in zip(pairwise(bounds), expected, strict=True):
            np.testing.assert_array_equal(file["embeddings_layer_3"][first:end], row)
    for name in ("out", "out.arrow"):
        holdfast("export", job_dir, "-o", tmp_path / name)
        assert table_of(tmp_path / name).select(["id"]).equals(pq.read_table(every_token, columns=["id"]))
    assert table_of(tmp_path / "out.arrow").equals(pq.read_table(every_token))
    refused = holdfast("export", job_dir, "-o", tmp_path / "out.npy", expect=2).stderr
    assert refused.count("\n") == 1
    assert "use .h5, .parquet, .arrow" in refused


def test_a_record_with_a_residue_that_is_not_finite_is_quarantined_whole(tmp_path: Path) -> None:
    (tmp_path / "a.fasta").write_text(f">a\n{protein(1)}\n>bad\nMKWWWWWV\n>b\n{protein(2)}\n")
    output, half = tmp_path / "out.h5", ["--store-dtype", "float16", "--h5-layout", "per-sequence"]
    command = ["embed", tmp_path / "a.fasta", "-o", output, "-m", "mock:4,nan=WWWWW", *CPU, "--pool", "none"]
    holdfast(*command, *half, expect=3)
    with h5py.File(output) as file:
        assert [file[name].attrs["original_id"] for name in file] == ["a", "b"]
        assert file["0"].shape == (len(protein(1)), 4)
        assert file["0"].dtype == np.float16
    assert "bad" in (tmp_path / "out.h5.quarantine.tsv").read_text()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--pool", "mean,sum"], "some of mean, cls, max, last"),
        (["--pool", "none,mean"], "or none alone"),
        (["--layer", "4"], "mock:4 has 3 layers"),
        (["--layer", "six"], "numbers joined by commas"),
        (["--pool", "none"], "a .npy holds no rows of different lengths"),
    ],
)
def test_a_readout_that_cannot_be_is_refused_in_one_line(
    fasta: Path, tmp_path: Path, options: list[str], named: str
) -> None:
    refused = holdfast("embed", fasta, "-o", tmp_path / "out.npy", "-m", "mock:4", *options, expect=2).stderr
    assert named in refused
    assert refused.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_shards_are_small_where_every_token_leaves_a_vector() -> None:
    token_bytes = 4 * 1280
    assert shard_cost_most("cuda", 650_000_000, token_bytes) * token_bytes <= SHARD_BYTES
    assert shard_cost_most("cuda", 650_000_000) > 10 * shard_cost_most("cuda", 650_000_000, token_bytes)


def test_the_plan_of_a_job_names_its_layers_from_the_first(every_token: Path) -> None:
    assert JobDir(Path(f"{every_token}.holdfast")).load().options.layers == (1, 3)
