"""Indexes of FAISS: they find what numpy finds by comparing with all; only their own job replaces them."""

import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from queue_app.choices import Metric
from queue_app.errors import UsageError
from queue_app.host.durable_files import file_digest
from queue_app.job.directory import JobDir
from queue_app.job.output_place import claim
from queue_app.outputs import faiss_index
from queue_app.outputs.faiss_index import IndexReport, index_damage, write_index
from queue_app.outputs.verify import verify_job
from tests.support.inline_job import InlineJob, embedded, write_numbered
from tests.support.jobs_and_inputs import make_job, publish, publish_anew

faiss = pytest.importorskip("faiss")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> InlineJob:
    """5,000 different vectors of 16 numbers."""
    home = tmp_path_factory.mktemp("many")
    (home / "a.txt").write_text("".join(f"text {number}\n" for number in range(5000)))
    return embedded(home / "out.npy", [home / "a.txt"], model="mock:16", toks_per_batch=20_000)


@pytest.fixture
def few(tmp_path: Path) -> InlineJob:
    """40 vectors of 8 numbers; one record is in quarantine."""
    fasta = write_numbered(tmp_path / "a.fasta", range(40), extra=">bad\nM1\n")
    return embedded(tmp_path / "out.npy", [fasta])


def index_of(job: InlineJob, path: Path | None = None, **how: Any) -> IndexReport:
    path = path or Path(f"{job.job.output}.faiss")
    return write_index(job.job, job.job_dir, path, **how)


def nearest(vectors: np.ndarray, queries: np.ndarray, metric: Metric) -> np.ndarray:
    """The rows of the best ten for each query, by comparing with all, in double precision."""
    vectors, queries = vectors.astype(np.float64), queries.astype(np.float64)
    if metric == "cosine":
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    distances = ((queries[:, None] - vectors[None]) ** 2).sum(axis=2)
    scores = -distances if metric == "l2" else queries @ vectors.T
    return np.argsort(-scores, axis=1, kind="stable")[:, :10]


def searched(path: Path, queries: np.ndarray, metric: Metric) -> np.ndarray:
    queries = np.array(queries, np.float32)
    if metric == "cosine":
        faiss.normalize_L2(queries)
    _, rows = faiss.read_index(str(path)).search(queries, 10)
    return np.asarray(rows)


@pytest.mark.parametrize("metric", ["cosine", "inner-product", "l2"])
def test_flat_finds_what_comparing_with_all_finds(many: InlineJob, metric: Metric) -> None:
    report = index_of(many, metric=metric)
    vectors = np.load(many.job.output)
    queries = vectors[::500] + np.random.default_rng(1).standard_normal((10, 16)).astype(np.float32) / 10
    np.testing.assert_array_equal(searched(report.path, queries, metric), nearest(vectors, queries, metric))
    assert (report.num_rows, report.dim, report.column) == (5000, 16, "embedding")


@pytest.mark.parametrize("kind", ["hnsw", "ivf", "IVF32,SQ8"])
def test_what_does_not_look_at_all_finds_almost_the_same(many: InlineJob, kind: str) -> None:
    report = index_of(many, kind=kind)
    vectors = np.load(many.job.output)
    found, expected = (
        searched(report.path, vectors[::50], "cosine"),
        nearest(vectors, vectors[::50], "cosine"),
    )
    shared = [len({*own} & {*best}) for own, best in zip(found, expected, strict=True)]
    assert np.mean(shared) / 10 > (0.3 if kind == "IVF32,SQ8" else 0.5)
    assert faiss.read_index(str(report.path)).ntotal == 5000


def test_clusters_are_learned_from_rows_that_lie_evenly(
    many: InlineJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faiss_index, "TRAINED_BY_LEAST", 700)
    monkeypatch.setattr(faiss_index, "POINTS_USUAL", 1)
    seen: list[np.ndarray] = []
    every = faiss_index._every

    def noted(*args: Any) -> Iterator[np.ndarray]:
        for vectors in every(*args):
            seen.append(vectors)
            yield vectors

    monkeypatch.setattr(faiss_index, "_every", noted)
    index_of(many, kind="IVF4,Flat", metric="l2")
    np.testing.assert_array_equal(np.concatenate(seen), np.load(many.job.output)[::7])


def test_a_row_number_is_that_of_every_output_and_its_id_lies_beside(few: InlineJob) -> None:
    report = index_of(few)
    ids = Path(f"{report.path}.ids.txt").read_text().split("\n")[:-1]
    assert ids == Path(few.job.output).with_suffix(".ids.txt").read_text().split("\n")[:-1]
    rows = searched(report.path, np.load(few.job.output), "cosine")[:, 0]
    assert [ids[row] for row in rows] == ids
    assert (report.num_rows, report.num_quarantined) == (40, 1)


def test_it_says_what_it_is(few: InlineJob) -> None:
    report = index_of(few, metric="l2")
    told = json.loads(Path(f"{report.path}.json").read_text())
    assert (told["job"], told["kind"], told["metric"], told["rows"]) == (few.job.job_id, "flat", "l2", 40)
    assert told["provenance"]["model_name"] == "mock:8"
    assert told["files"] == {
        name: file_digest(report.path.with_name(name)) for name in ("out.npy.faiss", "out.npy.faiss.ids.txt")
    }


def test_twice_the_same_bytes(few: InlineJob) -> None:
    path = index_of(few).path
    first = path.read_bytes()
    index_of(few)
    assert path.read_bytes() == first


@pytest.mark.parametrize("options", [{"store_dtype": "float16"}, {"precision": "int8"}])
def test_it_is_made_of_the_vectors_whatever_the_output_holds(tmp_path: Path, options: dict[str, Any]) -> None:
    fasta = write_numbered(tmp_path / "a.fasta", range(40))
    job = embedded(tmp_path / "out.npy", [fasta], **options)
    index = faiss.read_index(str(index_of(job, metric="inner-product").path))
    from queue_app import Job

    whole = np.asarray(Job(job.job_dir).result().embeddings, np.float32)
    np.testing.assert_array_equal(index.reconstruct_n(0, 40), whole)


def test_of_several_pools_one_is_named(tmp_path: Path) -> None:
    fasta = write_numbered(tmp_path / "a.fasta", range(5))
    job = embedded(tmp_path / "out.npy", [fasta], pool="mean,cls")
    with pytest.raises(UsageError, match=r"no column is named; .*embedding_mean, embedding_cls \(--column\)"):
        index_of(job)
    with pytest.raises(UsageError, match="no column embedding_max"):
        index_of(job, column="embedding_max")
    index = faiss.read_index(str(index_of(job, column="embedding_cls", metric="l2").path))
    np.testing.assert_array_equal(index.reconstruct_n(0, 5), np.load(tmp_path / "out.npy")[:, 1])


def test_vectors_of_every_token_are_refused(tmp_path: Path) -> None:
    job = embedded(tmp_path / "out.h5", [write_numbered(tmp_path / "a.fasta", range(5))], pool="none")
    with pytest.raises(UsageError, match="--pool none makes one for every token"):
        index_of(job)


@pytest.mark.parametrize("kind", ["nonsense", "IVF4,PQ3"])
def test_a_kind_that_cannot_be_is_one_line(few: InlineJob, kind: str) -> None:
    with pytest.raises(UsageError, match=f"--kind {kind}: not for these vectors, says FAISS") as said:
        index_of(few, kind=kind)
    assert "\n" not in str(said.value)
    assert not Path(f"{few.job.output}.faiss").exists()


def test_a_job_without_vectors_has_an_empty_index_or_none(tmp_path: Path) -> None:
    (tmp_path / "a.fasta").write_text(">bad\nM1\n")
    job = embedded(tmp_path / "out.npy", [tmp_path / "a.fasta"])
    assert faiss.read_index(str(index_of(job).path)).ntotal == 0
    with pytest.raises(UsageError, match="--kind ivf learns from the vectors, and the job has none"):
        index_of(job, kind="ivf")


# ---- what lies there


@pytest.mark.parametrize("name", ["out.npy.faiss", "out.npy.faiss.ids.txt", "out.npy.faiss.json"])
def test_what_is_not_of_this_job_is_replaced_only_when_told(
    few: InlineJob, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_text("years of work")
    with pytest.raises(UsageError, match=f"{name}: is there already, not written by this job"):
        index_of(few)
    assert (tmp_path / name).read_text() == "years of work"
    index_of(few, overwrite=True)
    index_of(few)


def test_an_index_that_was_killed_half_way_goes_on_over_its_own_files(
    few: InlineJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(faiss_index, "_tell", killed)
        with pytest.raises(KeyboardInterrupt):
            index_of(few)
    assert (tmp_path / "out.npy.faiss").exists()
    index_of(few)
    claim(few.job_dir, tmp_path / "other.faiss")
    (tmp_path / "other.faiss").write_text("a part")
    index_of(few, tmp_path / "other.faiss")


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("out.npy", "an index is called .faiss or .index"),
        ("file/out.faiss", "file is no directory"),
        ("dir.faiss", "not a file"),
    ],
)
def test_a_place_that_cannot_be_is_refused(few: InlineJob, tmp_path: Path, name: str, named: str) -> None:
    (tmp_path / "dir.faiss").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=named):
        index_of(few, tmp_path / name)


def test_verify_notices_a_damaged_index_and_not_one_that_was_moved(few: InlineJob) -> None:
    report = index_of(few)
    assert not verify_job(few.job_dir).damage
    for path in (report.path, Path(f"{report.path}.ids.txt")):
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + b"\0")
        (found,) = verify_job(few.job_dir).damage
        assert f"index {path} is not what was written" in found
        path.write_bytes(whole)
    report.path.unlink()
    assert index_damage(few.job, few.job_dir, []) == []


def test_verify_notices_an_index_that_is_older_than_the_results_and_says_how_it_is_made_anew(
    tmp_path: Path,
) -> None:
    made = make_job(num_shards=3, records_per_shard=5)
    job, job_dir = dataclasses.replace(made, output=str(tmp_path / "out.npy")), JobDir(tmp_path / "job")
    publish(job, job_dir)
    path = write_index(job, job_dir, tmp_path / "out.npy.faiss", kind="hnsw", metric="l2").path

    def told() -> list[str]:
        return [line for line in verify_job(job_dir).damage if line.startswith("index ")]

    assert told() == []
    publish_anew(job, job_dir, 2, 0.5)
    assert index_damage(job, job_dir, []) == [], "while shards are missing it may yet be right"
    (found,) = told()
    assert found == (
        f"index {path} was made from other results than those that count now; "
        f"holdfast index {job_dir.path} --kind=hnsw --metric=l2 --column=embedding makes it anew"
    )
    write_index(job, job_dir, path, kind="hnsw", metric="l2")
    assert told() == []


def test_without_faiss_one_line_says_what_to_install(few: InlineJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.setattr(faiss_index, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'holdfast\[faiss\]'"):
        index_of(few)
