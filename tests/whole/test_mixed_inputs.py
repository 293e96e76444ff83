"""Every format of input in one job, unusual ids and standard input: the same vectors in every output."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from queue_app.errors import JobChanged
from queue_app.ingest.prepare import Prepared
from queue_app.ingest.request import EmbedRequest
from queue_app.job.directory import JobDir, locked_job_directory
from queue_app.outputs.export import export
from tests.support.command_runs import holdfast
from tests.support.inline_job import prepare_here
from tests.support.input_files import EVERY_KIND, contents, standard_input
from tests.support.jobs_and_inputs import protein
from tests.support.output_files import table_of

RECORDS = [(f"p{number}", protein(number)) for number in range(12)]


UNUSUAL = ["sp|P1|A/B.C", "a b\tc", "Größe-東京-🧬", "x" * 200, ""]
STDIN = contents(".jsonl.zst", [(name, "MKV") for name in UNUSUAL] + [("gap", "MK-V")])


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job of one file of every kind, with the same records in each, and of standard input."""
    home = tmp_path_factory.mktemp("mixed")
    (home / "files").mkdir()
    for path, kind in zip(files_of(home), EVERY_KIND, strict=True):
        path.write_bytes(contents(kind, RECORDS))
    options = ["-m", "mock:8", "-o", home / "out.h5", "--alphabet", "protein", "--device", "cpu"]
    with standard_input(STDIN):
        holdfast("embed", *files_of(home), "-", *options, "--workers", "1", expect=3)
    return home


def files_of(home: Path) -> list[Path]:
    return [home / "files" / f"a{number}{kind}" for number, kind in enumerate(EVERY_KIND)]


def prepared_again(mixed: Path) -> Prepared:
    request = EmbedRequest(
        inputs=(*files_of(mixed), Path("-")), model="mock:8", output=mixed / "out.h5", alphabet="protein"
    )
    with locked_job_directory(request.directory):
        return prepare_here(request)


def test_the_same_bytes_on_standard_input_resume_and_others_are_refused(mixed: Path) -> None:
    with standard_input(STDIN):
        assert not prepared_again(mixed).created
    changed = "input stdin: content differs from stdin as first read"
    with pytest.raises(JobChanged, match=changed), standard_input(contents(".fasta", RECORDS)):
        prepared_again(mixed)


def test_every_format_in_one_job_gives_the_same_vectors(mixed: Path) -> None:
    with h5py.File(mixed / "out.h5") as file:
        vectors = file["embeddings"][: len(EVERY_KIND) * len(RECORDS)]
    first = vectors[: len(RECORDS)]
    assert len({row.tobytes() for row in first}) == len(RECORDS)
    for copy in vectors.reshape(len(EVERY_KIND), len(RECORDS), -1):
        np.testing.assert_array_equal(copy, first)


def test_standard_input_is_named_in_the_job_and_not_kept(mixed: Path) -> None:
    stdin = json.loads((mixed / "out.h5.holdfast/job.json").read_bytes())["inputs"][-1]
    assert (stdin["name"], stdin["path"], stdin["size_bytes"]) == ("stdin", "-", len(STDIN))
    assert not (mixed / "out.h5.holdfast/piped").exists()


def test_a_gap_is_listed_with_its_reason(mixed: Path) -> None:
    (_, line) = (mixed / "out.h5.quarantine.tsv").read_text().splitlines()
    assert line.endswith("gap\t4\tgap '-' at position 3 of an aligned sequence: take its gaps out first")


@pytest.mark.parametrize("name", ["out.h5", "ids.npy", "ids.parquet", "ids.arrow", "ids"])
def test_unusual_ids_are_in_every_output(mixed: Path, name: str) -> None:
    if name != "out.h5":
        job_dir = JobDir(mixed / "out.h5.holdfast")
        export(job_dir.load(), job_dir, mixed / name)
    if name == "out.h5":
        with h5py.File(mixed / name) as file:
            ids = list(file["ids"].asstr()[:])
    elif name == "ids.npy":
        ids = (mixed / "ids.ids.txt").read_text(encoding="utf-8").split("\n")[:-1]
    else:
        ids = table_of(mixed / name)["id"].to_pylist()
    assert ids[-len(UNUSUAL) :] == UNUSUAL
