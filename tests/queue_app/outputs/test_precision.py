"""Vectors in fewer bits: the very bits of sentence-transformers, and their ranges beside them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from sentence_transformers.util import quantize_embeddings

from queue_app import Job
from queue_app.choices import Precision
from queue_app.errors import UsageError
from queue_app.ingest.request import EmbedRequest
from queue_app.ingest.settle import settle
from queue_app.outputs.export import export, output_damage
from tests.support.inline_job import InlineJob, embedded, submitted, write_numbered
from tests.support.output_files import array_of, files_of, ids_of, table_of, vectors_of

FORMATS = ["out.h5", "out.npy", "out.npz", "out.safetensors", "out.parquet", "out.arrow"]
PRECISIONS: list[Precision] = ["int8", "uint8", "binary", "ubinary"]
each_format = pytest.mark.parametrize("name", FORMATS)
each_precision = pytest.mark.parametrize("precision", PRECISIONS)


Make = Callable[..., InlineJob]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Answers a finished job, the same one for the same options: 150 records, some of them twice.
    Its output, a .npy, has the vectors."""
    found: dict[str, InlineJob] = {}

    def made(**options: Any) -> InlineJob:
        if str(options) not in found:
            home = tmp_path_factory.mktemp("job")
            fasta = write_numbered(home / "a.fasta", [*range(140), *range(10)])
            found[str(options)] = embedded(home / "whole.npy", [fasta], **options)
        return found[str(options)]

    return made


def whole(job: InlineJob) -> np.ndarray:
    vectors: np.ndarray = np.load(job.job.output)
    return vectors


def ranges_of(output: Path, column: str = "embedding", place: int = 0) -> np.ndarray:
    """[2, dim], as a user of each format finds them."""
    if output.suffix == ".npy":
        found: np.ndarray = np.load(output.with_suffix(".ranges.npy"))
        return found[:, place] if found.ndim == 3 else found
    if output.suffix in (".h5", ".npz", ".safetensors"):
        return array_of(output, column.replace("embedding", "ranges"))
    return np.array(json.loads(table_of(output).schema.metadata[b"ranges"])[column], np.float32)


@each_format
@each_precision
@pytest.mark.parametrize("stored", ["float32", "float16"])
def test_the_bits_are_those_of_sentence_transformers(
    make: Make, tmp_path: Path, name: str, precision: Precision, stored: str
) -> None:
    """Which has all vectors in memory at once."""
    job = make(store_dtype=stored)
    export(job.job, job.job_dir, tmp_path / name, precision=precision)
    expected = quantize_embeddings(whole(job), precision)
    found = vectors_of(tmp_path / name)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
    assert ids_of(tmp_path / name) == [f"r{place}" for place in range(150)]


@each_format
def test_queries_are_coded_alike_by_the_ranges_that_are_kept(make: Make, tmp_path: Path, name: str) -> None:
    job = make()
    export(job.job, job.job_dir, tmp_path / name, precision="int8")
    vectors, ranges = whole(job), ranges_of(tmp_path / name)
    np.testing.assert_array_equal(ranges, [vectors.min(axis=0), vectors.max(axis=0)])
    alone = quantize_embeddings(vectors[7:8], "int8", ranges=ranges)
    np.testing.assert_array_equal(alone, vectors_of(tmp_path / name)[7:8])
    steps = (ranges[1] - ranges[0]) / 255
    again = (vectors_of(tmp_path / name).astype(np.float32) + 128.5) * steps + ranges[0]
    assert np.abs(again - vectors).max() <= steps.max() * 0.51


@each_format
def test_each_of_several_pools_has_its_own_ranges(make: Make, tmp_path: Path, name: str) -> None:
    job = make(pool="mean,cls")
    export(job.job, job.job_dir, tmp_path / name, precision="uint8")
    vectors = whole(job)
    for place, column in enumerate(["embedding_mean", "embedding_cls"]):
        expected = quantize_embeddings(vectors[:, place], "uint8")
        np.testing.assert_array_equal(vectors_of(tmp_path / name, column, place), expected)
        ranges = ranges_of(tmp_path / name, column, place)
        np.testing.assert_array_equal(ranges, [vectors[:, place].min(axis=0), vectors[:, place].max(axis=0)])


@each_precision
def test_bits_that_fill_no_byte_are_padded_with_zeros(
    make: Make, tmp_path: Path, precision: Precision
) -> None:
    job = make(model="mock:13")
    export(job.job, job.job_dir, tmp_path / "out.npy", precision=precision)
    expected = quantize_embeddings(whole(job), precision)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected)


def test_a_number_that_is_the_same_in_all_vectors_is_the_first_step(tmp_path: Path) -> None:
    """One vector alone is such a case: sentence-transformers then wants its ranges to be given."""
    fasta = write_numbered(tmp_path / "a.fasta", [3])
    job = embedded(tmp_path / "whole.npy", [fasta])
    export(job.job, job.job_dir, tmp_path / "out.npy", precision="int8")
    ranges, vectors = ranges_of(tmp_path / "out.npy"), np.load(tmp_path / "whole.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), quantize_embeddings(vectors, "int8", ranges))
    np.testing.assert_array_equal(ranges[0], vectors[0])


@each_format
@each_precision
def test_a_job_whose_records_are_all_quarantined_has_an_output_without_codes(
    tmp_path: Path, name: str, precision: Precision
) -> None:
    (tmp_path / "a.fasta").write_text(">bad\nM1\n")
    job = embedded(tmp_path / "whole.npy", [tmp_path / "a.fasta"])
    export(job.job, job.job_dir, tmp_path / name, precision=precision)
    assert vectors_of(tmp_path / name).shape == (0, 1 if "binary" in precision else 8)


@each_format
def test_twice_the_same_bytes_which_verify_accepts(tmp_path: Path, name: str) -> None:
    fasta = write_numbered(tmp_path / "a.fasta", range(40))
    job = submitted(tmp_path / name, [fasta], precision="int8")
    job.compute()
    job.export()  # as the job was submitted, like a worker that ends it
    assert vectors_of(tmp_path / name).dtype == np.int8
    first = [array_of(tmp_path / name, "embeddings")] if name == "out.h5" else bytes_of(tmp_path / name)
    job.export()
    again = [array_of(tmp_path / name, "embeddings")] if name == "out.h5" else bytes_of(tmp_path / name)
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))
    assert output_damage(job.job, job.job_dir) == []


def bytes_of(output: Path) -> list[Any]:
    return [path.read_bytes() for path in files_of(output)]


def test_the_content_is_the_same_in_every_precision(make: Make, tmp_path: Path) -> None:
    job = make()
    digests = {
        export(job.job, job.job_dir, tmp_path / "out.npy", precision=each).output_digest
        for each in PRECISIONS
    }
    assert digests == {job.export().output_digest}


def test_an_output_of_codes_says_so(make: Make, tmp_path: Path) -> None:
    job = make()
    export(job.job, job.job_dir, tmp_path / "out.h5", precision="ubinary")
    with h5py.File(tmp_path / "out.h5") as file:
        assert file.attrs["precision"] == "ubinary"
    assert json.loads((tmp_path / "out.h5.card.json").read_text())["output"]["precision"] == "ubinary"


def test_python_still_gives_the_vectors(tmp_path: Path) -> None:
    """Its .npy output is not mapped: it holds codes."""
    fasta = write_numbered(tmp_path / "a.fasta", range(40))
    job = submitted(tmp_path / "out.npy", [fasta], precision="int8")
    job.compute()
    job.export()
    export(job.job, job.job_dir, tmp_path / "whole.parquet", precision="float32")
    result = Job(job.job_dir).result()
    assert np.load(tmp_path / "out.npy").dtype == np.int8
    np.testing.assert_array_equal(result.embeddings, vectors_of(tmp_path / "whole.parquet"))


def test_ranges_of_an_earlier_precision_do_not_stay(make: Make, tmp_path: Path) -> None:
    job = make()
    export(job.job, job.job_dir, tmp_path / "out.npy", precision="int8")
    assert (tmp_path / "out.ranges.npy").exists()
    export(job.job, job.job_dir, tmp_path / "out.npy")
    assert not (tmp_path / "out.ranges.npy").exists()


@pytest.mark.parametrize(
    ("name", "options", "named"),
    [
        ("out.h5ad", {}, "is for .npy, .npz, .parquet, .arrow, .safetensors, and .h5"),
        ("out.lance", {}, "is for .npy"),
        ("out", {}, "is for .npy"),
        ("out.h5", {"h5_layout": "per-id"}, "is for .npy"),
        ("out.parquet", {"pool": "none"}, "--pool none makes something else"),
    ],
)
def test_what_cannot_hold_codes_is_refused_before_the_input_is_read(
    tmp_path: Path, name: str, options: dict[str, Any], named: str
) -> None:
    asked = {"inputs": [tmp_path / "is not there"], "model": "mock:8", "output": tmp_path / name, **options}
    with pytest.raises(UsageError) as said:
        settle(EmbedRequest(precision="int8", **asked))
    assert named in str(said.value)
    assert str(said.value).startswith(f"{tmp_path / name}: --precision int8")
