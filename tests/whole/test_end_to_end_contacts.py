"""Contacts of ESM-2 through the whole command, beside those that transformers predicts."""

import json
import os
import signal
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from queue_app import embed
from queue_app.cli.main import app
from queue_app.errors import UsageError
from queue_app.preflight.check_model import examine_model
from tests.support.command_runs import holdfast, running, wait_for_progress
from tests.support.jobs_and_inputs import protein
from tests.support.model_directories import (
    contacts_of_transformers,
    save_bert,
    save_esm2,
    with_contact_head,
)
from tests.support.output_files import table_of

Maps = list[npt.NDArray[np.float32]]
CPU = ["--device", "cpu", "--workers", "2"]
CONTACTS = [*CPU, "--pool", "contacts", "--toks-per-batch", "128"]
LONGEST = 60
PROTEINS = [
    "M",
    "MK",
    "MKV",
    *(protein(number)[: 20 + number] for number in range(36)),
    "MKV",
    protein(1)[:21],
]
"""Some of them twice."""


@pytest.fixture(scope="module")
def esm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_contact_head(save_esm2(tmp_path_factory.mktemp("models") / "esm2", masked_lm=True))


@pytest.fixture(scope="module")
def fasta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("input") / "proteins.fasta"
    path.write_text("".join(f">p{number}\n{each}\n" for number, each in enumerate(PROTEINS)))
    return path


@pytest.fixture(scope="module")
def expected(esm2: Path) -> Maps:
    return contacts_of_transformers(esm2, PROTEINS)


@pytest.fixture(scope="module")
def output(esm2: Path, fasta: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("output") / "out.parquet"
    holdfast("embed", fasta, "-m", esm2, "-o", path, "--shards", "4", *CONTACTS)
    return path


def maps_of(table: object) -> Maps:
    """[L, L] of each row of the column, as a user takes them."""
    rows = [np.array(row, np.float32) for row in table["contacts"].to_pylist()]  # type: ignore[index]
    return [row.reshape(int(len(row) ** 0.5), -1) for row in rows]


def assert_close(found: Maps, expected: Maps, *, atol: float = 1e-5) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=atol)


# ---- values and formats


def test_every_table_has_the_contacts_that_transformers_predicts(
    output: Path, expected: Maps, tmp_path: Path
) -> None:
    table = pq.read_table(output)
    assert table.column_names == ["id", "contacts"]
    assert table["id"].to_pylist() == [f"p{number}" for number in range(len(PROTEINS))]
    assert_close(maps_of(table), expected)
    for name in ("out", "out.arrow", "out.lance"):
        holdfast("export", f"{output}.holdfast", "-o", tmp_path / name)
        assert_close(maps_of(table_of(tmp_path / name)), expected)


def test_the_card_cites_their_method_and_calls_them_no_vectors(output: Path) -> None:
    card = json.loads(Path(f"{output}.card.json").read_text())
    assert "rao2021contacts" in [each["key"] for each in card["citations"]]
    for_people = Path(f"{output}.card.md").read_text()
    assert "| rows | 41, in the order of the input |" in for_people
    assert "a matrix of contacts for each record" in for_people
    assert "one for each pair of residues, float32" in for_people
    assert "dimensions" not in for_people
    assert "Each is represented by a symmetric matrix" in for_people


def test_an_h5_has_them_end_to_end_or_a_matrix_for_each_record(
    output: Path, expected: Maps, tmp_path: Path
) -> None:
    holdfast("export", f"{output}.holdfast", "-o", tmp_path / "flat.h5")
    with h5py.File(tmp_path / "flat.h5") as file:
        assert set(file) == {"ids", "contacts", "offsets"}
        rows = [file["contacts"][first:end] for first, end in pairwise(file["offsets"][:].tolist())]
        assert_close([row.reshape(int(len(row) ** 0.5), -1) for row in rows], expected)
    holdfast("export", f"{output}.holdfast", "-o", tmp_path / "own.h5", "--h5-layout", "per-id")
    with h5py.File(tmp_path / "own.h5") as file:
        assert_close([file[f"p{number}"][:] for number in range(len(PROTEINS))], expected)


@pytest.mark.parametrize("name", ["out.npz", "out.safetensors"])
def test_what_has_arrays_by_name_has_them_end_to_end(
    output: Path, expected: Maps, tmp_path: Path, name: str
) -> None:
    holdfast("export", f"{output}.holdfast", "-o", tmp_path / name)
    arrays = np.load(tmp_path / name) if name.endswith("npz") else load_file(tmp_path / name)
    assert arrays["contacts"].ndim == 1
    rows = [arrays["contacts"][first:end] for first, end in pairwise(arrays["offsets"].tolist())]
    assert_close([row.reshape(int(len(row) ** 0.5), -1) for row in rows], expected)


def test_a_numpy_array_cannot_hold_them(output: Path, tmp_path: Path) -> None:
    refused = holdfast("export", f"{output}.holdfast", "-o", tmp_path / "out.npy", expect=2).stderr
    assert "a .npy holds no rows of different lengths, which --pool contacts makes" in refused
    assert refused.count("\n") == 1


def test_python_has_a_matrix_for_each_protein(
    esm2: Path, fasta: Path, expected: Maps, tmp_path: Path
) -> None:
    job = embed(
        fasta,
        model=str(esm2),
        output=tmp_path / "out.h5",
        pool="contacts",
        device="cpu",
        store_dtype="float16",
    )
    result = job.result()
    contacts = result.contacts
    assert result.columns == ("contacts",)
    assert len(contacts) == len(PROTEINS)
    assert contacts[4].shape == (21, 21)
    assert contacts[4].dtype == np.float16
    assert_close([each.astype(np.float32) for each in contacts], expected, atol=1e-3)


# ---- crashes


def test_a_killed_worker_changes_no_byte(esm2: Path, fasta: Path, output: Path, tmp_path: Path) -> None:
    """Every protein is many times in the input, and computed each time: so there is time to be killed."""
    many = tmp_path / "many.fasta"
    many.write_text(fasta.read_text() * 12)
    slow = [*CONTACTS, "--no-dedup", "--shards", "4", "--commit-seconds", "0.05"]
    holdfast("embed", many, "-m", esm2, "-o", tmp_path / "calm.parquet", *slow)
    with running("embed", many, "-m", esm2, "-o", tmp_path / "out.parquet", *slow) as job:
        seen = wait_for_progress(tmp_path / "out.parquet.holdfast", 0.1, job)
        os.kill(seen["workers"][0]["child_pid"], signal.SIGKILL)
        os.kill(job.pid, signal.SIGKILL)
        job.wait(timeout=60)
    assert not (tmp_path / "out.parquet").exists()
    resumed = holdfast("embed", many, "-m", esm2, "-o", tmp_path / "out.parquet", *slow).stdout
    assert "sequences" in resumed
    assert (tmp_path / "out.parquet").read_bytes() == (tmp_path / "calm.parquet").read_bytes()
    assert "sound" in holdfast("verify", tmp_path / "out.parquet").stdout


def test_maps_of_an_earlier_job_are_copied(esm2: Path, fasta: Path, output: Path, tmp_path: Path) -> None:
    copied = holdfast(
        "embed", fasta, "-m", esm2, "-o", tmp_path / "out.parquet", *CONTACTS, "--reuse", f"{output}.holdfast"
    )
    assert "are reused from" in copied.stdout + copied.stderr
    assert pq.read_table(tmp_path / "out.parquet").equals(pq.read_table(output))


# ---- long proteins


def test_a_protein_that_would_be_cut_in_windows_is_quarantined(
    esm2: Path, fasta: Path, expected: Maps, tmp_path: Path
) -> None:
    short = ["--max-length", "50", *CONTACTS]
    holdfast("embed", fasta, "-m", esm2, "-o", tmp_path / "out.parquet", *short, expect=3)
    kept = [number for number, each in enumerate(PROTEINS) if len(each) <= 50]
    table = pq.read_table(tmp_path / "out.parquet")
    assert table["id"].to_pylist() == [f"p{number}" for number in kept]
    assert_close(maps_of(table), [expected[number] for number in kept])
    listed = (tmp_path / "out.parquet.quarantine.tsv").read_text()
    assert "longer than 50 tokens, and windows make no map of contacts; --long truncate gives that" in listed


def test_truncated_proteins_have_the_map_of_their_first_residues(
    esm2: Path, fasta: Path, tmp_path: Path
) -> None:
    cut = ["--max-length", "30", "--long", "truncate", *CONTACTS]
    holdfast("embed", fasta, "-m", esm2, "-o", tmp_path / "out.parquet", *cut)
    firsts = contacts_of_transformers(esm2, [each[:30] for each in PROTEINS])
    assert_close(maps_of(pq.read_table(tmp_path / "out.parquet")), firsts)


# ---- what is refused


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--pool", "contacts,mean"], "or contacts alone"),
        (["--pool", "contacts", "--normalize"], "--normalize: changes the vector of a sequence"),
        (["--pool", "contacts", "--truncate-dim", "8"], "--truncate-dim: changes the vector of a sequence"),
        (["--pool", "contacts", "--layer", "1"], "--pool contacts takes the attention of all layers"),
        (["--pool", "contacts", "--layer", "1,2"], "--pool contacts takes the attention of all layers"),
        (["--pool", "contacts", "--prompt", "M"], "a prompt would have contacts too"),
    ],
)
@pytest.mark.parametrize("command", ["embed", "plan"])
def test_what_contacts_do_not_go_with_is_refused_before_anything_is_read(
    esm2: Path, tmp_path: Path, command: str, options: list[str], named: str
) -> None:
    asked = [command, tmp_path / "none.fasta", "-m", esm2, "-o", tmp_path / "out.h5", *options]
    with pytest.raises(UsageError) as refused:
        app([*map(str, asked)], prog_name="holdfast", standalone_mode=False)
    assert named in str(refused.value)
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_every_command_says_the_same_of_a_model_without_contacts(tmp_path: Path) -> None:
    untrained = save_esm2(tmp_path / "untrained")
    with_contact_head(untrained, scale=0.02, bias=0.0)
    words = "the contact head of untrained was never trained"
    for command in ("embed", "plan"):
        asked = [tmp_path / "none.fasta", "-m", untrained, "-o", tmp_path / "out.h5", "--pool", "contacts"]
        assert words in holdfast(command, *asked, expect=2).stderr
    assert any(words in finding.text for finding in examine_model(str(untrained)))
    bert = save_bert(tmp_path / "bert")
    asked = [tmp_path / "none.fasta", "-m", bert, "-o", tmp_path / "out.h5", "--pool", "contacts"]
    assert "bert is no ESM-2 or ESM-1b" in holdfast("embed", *asked, expect=2).stderr
