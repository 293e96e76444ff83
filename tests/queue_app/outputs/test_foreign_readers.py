"""Outputs open in the programs that our users have already, with the values that were published."""

import importlib
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset
import pytest

from queue_app.choices import H5Layout
from queue_app.job.directory import find_job_directory
from queue_app.job.result_files import as_matrix, iter_result
from queue_app.outputs.export import export
from queue_app.outputs.formats.hdf5 import sequence_hash
from tests.support.inline_job import embedded, write_numbered
from tests.support.jobs_and_inputs import protein

READERS = Path(sys.prefix) / "readers"
"""Where `make test` unpacks bio_embeddings, protspace and biotrainer, without what they would install."""


@dataclass(frozen=True, slots=True)
class Published:
    """What the workers published, read without any output format."""

    ids: list[str]
    vectors: npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def published(finished: Path) -> Published:
    files = sorted(find_job_directory(finished / "out.h5").results.glob("*.parquet"))
    batches = [batch for file in files for batch in iter_result(file)]
    ids = [record_id for batch in batches for record_id in batch.column("id").to_pylist()]
    vectors = np.concatenate([as_matrix(batch.column("embedding")) for batch in batches])
    assert len(set(map(bytes, vectors))) == len(ids) == 60  # no two alike: a mixed-up row is seen
    return Published(ids, vectors.astype(np.float32))


def same(published: Published, ids: Iterable[Any], vectors: Any) -> bool:
    return list(ids) == published.ids and np.array_equal(np.asarray(vectors), published.vectors)


# ---- tables and arrays


def test_h5py_reads_ids_and_vectors(finished: Path, published: Published) -> None:
    with h5py.File(finished / "out.h5") as file:
        assert same(published, file["ids"].asstr()[:], file["embeddings"][:])
        assert file.attrs["model_name"] == "mock:8"


def test_numpy_maps_the_vectors_beside_their_ids(finished: Path, published: Published) -> None:
    vectors = np.load(finished / "out.npy", mmap_mode="r")
    assert isinstance(vectors, np.memmap)
    assert same(published, (finished / "out.ids.txt").read_text().split("\n")[:-1], vectors)


def test_pandas_reads_the_parquet_file(finished: Path, published: Published) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_parquet(finished / "out.parquet")
    assert same(published, frame["id"], np.stack(frame["embedding"]))


def test_polars_reads_the_parquet_file_as_an_array_column(finished: Path, published: Published) -> None:
    polars = pytest.importorskip("polars")
    frame = polars.read_parquet(finished / "out.parquet")
    assert frame.schema["embedding"] == polars.Array(polars.Float32, 8)
    assert same(published, frame["id"], frame["embedding"].to_numpy())


def test_polars_scans_the_directory(finished: Path, published: Published) -> None:
    polars = pytest.importorskip("polars")
    frame = polars.scan_parquet(finished / "out" / "*.parquet").sort("ordinal").collect()
    assert same(published, frame["id"], frame["embedding"].to_numpy())


@pytest.mark.parametrize("source", ["out.parquet", "out/*.parquet"])
def test_duckdb_queries_the_files_and_computes_with_the_vectors(
    finished: Path, published: Published, source: str
) -> None:
    duckdb = pytest.importorskip("duckdb")
    query = f"SELECT id, embedding, list_inner_product(embedding, embedding) FROM '{finished / source}'"
    with duckdb.connect() as connection:
        ids, vectors, squares = zip(*connection.execute(query).fetchall(), strict=True)
    assert same(published, ids, np.array(vectors, np.float32))
    assert np.allclose(squares, (published.vectors**2).sum(axis=1), rtol=1e-5)


def test_pyarrow_streams_the_directory_in_the_order_of_the_input(
    finished: Path, published: Published
) -> None:
    table = pyarrow.dataset.dataset(finished / "out").to_table()
    assert table["ordinal"].to_pylist() == list(range(60))
    assert same(published, table["id"].to_pylist(), as_matrix(table["embedding"]))


def test_pyarrow_maps_the_arrow_file_without_a_copy(finished: Path, published: Published) -> None:
    with pa.memory_map(str(finished / "out.arrow")) as mapped:
        table = pa.ipc.open_file(mapped).read_all()
    vectors = table["embedding"].chunk(0).flatten().to_numpy(zero_copy_only=True)
    assert same(published, table["id"].to_pylist(), vectors.reshape(len(table), -1))


def test_pandas_reads_the_arrow_file(finished: Path, published: Published) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_feather(finished / "out.arrow")
    assert same(published, frame["id"], np.stack(frame["embedding"]))


def test_polars_reads_and_scans_the_arrow_file_as_an_array_column(
    finished: Path, published: Published
) -> None:
    polars = pytest.importorskip("polars")
    for frame in (
        polars.read_ipc(finished / "out.arrow"),
        polars.scan_ipc(finished / "out.arrow").collect(),
    ):
        assert frame.schema["embedding"] == polars.Array(polars.Float32, 8)
        assert same(published, frame["id"], frame["embedding"].to_numpy())


def test_duckdb_queries_the_mapped_arrow_file(finished: Path, published: Published) -> None:
    duckdb = pytest.importorskip("duckdb")
    with pa.memory_map(str(finished / "out.arrow")) as mapped, duckdb.connect() as connection:
        connection.register("vectors", pa.ipc.open_file(mapped).read_all())
        ids, vectors = zip(*connection.execute("SELECT id, embedding FROM vectors").fetchall(), strict=True)
    assert same(published, ids, np.array(vectors, np.float32))


def test_datasets_reads_the_arrow_file(finished: Path, published: Published, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    source = {"data_files": str(finished / "out.arrow"), "split": "train", "cache_dir": str(tmp_path)}
    rows = datasets.load_dataset("arrow", **source).with_format("numpy")
    assert same(published, rows["id"][:], rows["embedding"][:])


def test_scikit_learn_projects_the_mapped_array(finished: Path, published: Published) -> None:
    decomposition = pytest.importorskip("sklearn.decomposition")
    points = decomposition.PCA(n_components=2).fit_transform(np.load(finished / "out.npy", mmap_mode="r"))
    centred = published.vectors - published.vectors.mean(axis=0)
    spread = np.linalg.svd(centred, compute_uv=False)[:2]
    assert np.allclose(np.linalg.norm(points, axis=0), spread, rtol=1e-4)


def test_faiss_finds_each_vector_first_among_all(finished: Path, published: Published) -> None:
    faiss = pytest.importorskip("faiss")
    vectors = np.array(np.load(finished / "out.npy", mmap_mode="r"))
    index = faiss.IndexFlatL2(vectors.shape[1])
    index.add(vectors)
    distances, rows = index.search(published.vectors, 1)
    assert rows[:, 0].tolist() == list(range(60))
    assert np.allclose(distances, 0, atol=1e-5)


@pytest.mark.parametrize("source", ["out.parquet", "out"])
def test_datasets_reads_the_parquet_files(
    finished: Path, published: Published, tmp_path: Path, source: str
) -> None:
    datasets = pytest.importorskip("datasets")
    path = finished / source
    files = [str(file) for file in sorted(path.iterdir())] if path.is_dir() else str(path)
    rows = datasets.Dataset.from_parquet(files, cache_dir=str(tmp_path)).with_format("numpy")
    assert same(published, rows["id"][:], rows["embedding"][:])


# ---- one dataset per sequence


def in_layout(layout: H5Layout, finished: Path, tmp_path: Path) -> Path:
    path, job_dir = tmp_path / f"{layout}.h5", find_job_directory(finished / "out.h5")
    export(job_dir.load(), job_dir, path, h5_layout=layout)
    return path


@pytest.mark.parametrize("layout", ["per-sequence", "per-id", "per-hash"])
def test_bio_embeddings_finds_each_vector_by_its_original_id_whatever_its_name(
    tmp_path: Path, finished: Path, published: Published, monkeypatch: pytest.MonkeyPatch, layout: H5Layout
) -> None:
    with h5py.File(in_layout(layout, finished, tmp_path)) as file:
        query = bio_embeddings(monkeypatch).QueryEmbeddingsFile(file)
        found = np.array([query.query_original_id(record_id) for record_id in published.ids])
    assert same(published, published.ids, found)


def test_protspace_loads_a_dataset_per_id_and_the_name_of_the_model(
    tmp_path: Path, finished: Path, published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = protspace(monkeypatch).load_h5([in_layout("per-id", finished, tmp_path)])
    assert same(published, loaded.headers, loaded.data)
    assert loaded.name == "mock:8"


def test_protspace_loads_every_record_whatever_its_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = ["sp|P12345|ONE", "P12345/10-50", "a/b/c", ".", "P12345", "P12345"]
    (tmp_path / "a.fasta").write_text(
        "".join(f">{name}\n{protein(row)}\n" for row, name in enumerate(ids)) + f">\n{protein(6)}\n"
    )
    job = embedded(tmp_path / "rows.npy", [tmp_path / "a.fasta"])
    export(job.job, job.job_dir, tmp_path / "out.h5", h5_layout="per-id")
    loaded = protspace(monkeypatch).load_h5([tmp_path / "out.h5"])
    names = ["sp|P12345|ONE", "P12345_10-50", "a_b_c", ".#3", "P12345", "P12345#5", "#6"]
    assert loaded.headers == names
    assert np.array_equal(loaded.data, np.load(tmp_path / "rows.npy"))
    identified = [protspace(monkeypatch).parse_identifier(name) for name in names]
    assert identified[0] == "P12345", "which is why such an id stays as it is"


def test_protspace_would_cut_off_or_lose_an_id_with_slashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why no slash is left in a name."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["model_name"] = "mock:8"
        file["P12345/10-50"] = file["a/b/c"] = np.ones(8)
    assert protspace(monkeypatch).load_h5([tmp_path / "a.h5"]).headers == ["10-50"]


def test_protspace_takes_the_name_of_a_dataset_for_the_id(
    tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why the layout by ordinal is not enough for it: it never reads `original_id`."""
    loaded = protspace(monkeypatch).load_h5([in_layout("per-sequence", finished, tmp_path)])
    assert loaded.headers == list(map(str, range(60)))


def test_protspace_refuses_one_matrix_of_all(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="looks like per-residue"):
        protspace(monkeypatch).load_h5([finished / "out.h5"])


def test_biotrainer_loads_a_dataset_per_sequence_under_its_hash(
    tmp_path: Path, finished: Path, published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, read_fasta = biotrainer(monkeypatch)
    records = [record for record in read_fasta(finished / "proteins.fasta") if record.seq_id != "bad"]
    keys = [record.get_hash() for record in records]
    loaded = service.load_embeddings(str(in_layout("per-hash", finished, tmp_path)), keys)
    assert same(published, [record.seq_id for record in records], [loaded[key].numpy() for key in keys])


def test_biotrainer_loads_the_vectors_of_residues_and_one_dataset_for_identical_sequences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, read_fasta = biotrainer(monkeypatch)
    fasta = write_numbered(tmp_path / "a.fasta", [5, 7, 5, 8])
    job = embedded(tmp_path / "out.parquet", [fasta], pool="none")
    export(job.job, job.job_dir, tmp_path / "out.h5", h5_layout="per-hash")
    keys = {record.get_hash(): record for record in read_fasta(fasta)}
    loaded = service.load_embeddings(str(tmp_path / "out.h5"), list(keys))
    assert {key: len(vectors) for key, vectors in loaded.items()} == {
        key: len(record.seq) for key, record in keys.items()
    }
    with h5py.File(tmp_path / "out.h5") as file:
        assert set(file) == set(keys)


def test_biotrainer_hashes_only_the_last_line_of_a_sequence_and_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why it needs a FASTA with one line a sequence, in capitals and without stops."""
    _, read_fasta = biotrainer(monkeypatch)
    (tmp_path / "a.fasta").write_text(">plain\nMKV\n>lines\nMK\nVW\n>lower\nmkv\n>stop\nMKV*\n")
    records = read_fasta(tmp_path / "a.fasta")
    assert [record.seq for record in records] == ["MKV", "VW", "mkv", "MKV*"]
    assert [record.get_hash() for record in records] == [sequence_hash(record.seq) for record in records]


def test_biotrainer_does_not_find_a_sequence_by_its_ordinal(
    tmp_path: Path, finished: Path, published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It loads the file, but a training asks for the hash: it needs names of its own."""
    service, _ = biotrainer(monkeypatch)
    path = str(in_layout("per-sequence", finished, tmp_path))
    loaded = service.load_embeddings(path)
    assert same(published, published.ids, [loaded[str(row)].numpy() for row in range(60)])
    with pytest.raises(ValueError, match="not found in embeddings file"):
        service.load_embeddings(path, [sequence_hash(protein(0))])


# ---- the real readers, without what the packages around them import


def bio_embeddings(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of bio_embeddings that reads HDF5 files; Biopython, which it imports, reads none of them."""
    require("bio_embeddings")
    for name in ("bio_embeddings", "bio_embeddings.utilities"):
        bare_package(name, monkeypatch)
    for name, member in (("Bio", "SeqIO"), ("Bio.SeqRecord", "SeqRecord")):
        setattr(bare_package(name, monkeypatch), member, object)
    return importlib.import_module("bio_embeddings.utilities.helpers")


def protspace(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of protspace that reads HDF5 files."""
    require("protspace")
    for name in ("protspace", "protspace.data", "protspace.data.loaders"):
        bare_package(name, monkeypatch)
    return importlib.import_module("protspace.data.loaders.h5")


def biotrainer(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """The service of biotrainer that reads HDF5 files, and its reader of FASTA files."""
    require("biotrainer")
    for name in ("biotrainer", "biotrainer.embedders", "biotrainer.embedders.services"):
        bare_package(name, monkeypatch)
    interfaces = bare_package("biotrainer.embedders.interfaces", monkeypatch)
    interfaces.EmbedderInterface = object  # type: ignore[attr-defined]
    inputs = bare_package("biotrainer.input_files", monkeypatch)
    fasta = importlib.import_module("biotrainer.input_files.fasta")
    inputs.read_FASTA = fasta.read_FASTA  # type: ignore[attr-defined]
    inputs.BiotrainerSequenceRecord = fasta.BiotrainerSequenceRecord  # type: ignore[attr-defined]
    service = importlib.import_module("biotrainer.embedders.services.embedding_service")
    return service.EmbeddingService, fasta.read_FASTA


def require(name: str) -> None:
    if not (READERS / name).is_dir():
        pytest.skip(f"{name} is not in {READERS}: `make test` puts it there")


def bare_package(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The package without its own code: its modules can be imported, and nothing else is."""
    package = ModuleType(name)
    package.__path__ = [str(READERS.joinpath(*name.split(".")))]
    monkeypatch.setitem(sys.modules, name, package)
    return package
