"""Files of AnnData's: what anndata itself reads, whole and backed, and writes again the same."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.support.inline_job import InlineJob, embedded, write_numbered
from tests.support.output_files import array_of, read_h5ad

anndata = pytest.importorskip("anndata")
NUMBERS = [*range(30), 3, 4]


def made(tmp_path: Path, **options: Any) -> InlineJob:
    fasta = write_numbered(tmp_path / "a.fasta", NUMBERS[:5], extra=">bad\nM1\n")
    rest = "".join(f">r{place}\nMKV{'A' * place}\n" for place in range(5, 32))
    fasta.write_text(fasta.read_text() + rest)
    job = embedded(tmp_path / "out.h5ad", [fasta], **options)
    job.export(tmp_path / "out.h5")
    return job


def built(tmp_path: Path, *columns: str) -> Any:
    """The same data, made with anndata and pandas from what h5py reads of another output."""
    import pandas as pd

    with h5py.File(tmp_path / "out.h5") as file:
        ids, provenance = file["ids"].asstr()[:], dict(file.attrs)
    ordinals = [number for number in range(33) if number != 5]
    obs = pd.DataFrame({"ordinal": np.array(ordinals, np.int64)}, index=pd.Index(ids))
    arrays = {
        name: array_of(tmp_path / "out.h5", name.replace("embedding", "embeddings")) for name in columns
    }
    if len(columns) == 1:
        return anndata.AnnData(arrays[columns[0]], obs, uns=provenance)
    return anndata.AnnData(None, obs, obsm=arrays, uns=provenance)


def assert_same(found: Any, expected: Any) -> None:
    assert found.shape == expected.shape
    assert found.obs.equals(expected.obs)
    assert found.obs_names.tolist() == expected.obs_names.tolist()
    assert found.var_names.tolist() == expected.var_names.tolist()
    assert found.obsm.keys() == expected.obsm.keys()
    assert found.uns == expected.uns
    assert not found.layers
    for own, other in zip(matrices(found), matrices(expected), strict=True):
        assert own.dtype == other.dtype
        np.testing.assert_array_equal(own, other)


def matrices(data: Any) -> list[np.ndarray]:
    return [*([] if data.X is None else [data.X]), *(data.obsm[name] for name in sorted(data.obsm))]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_anndata_reads_what_anndata_would_have_built_itself(tmp_path: Path, dtype: str) -> None:
    made(tmp_path, store_dtype=dtype)
    assert_same(anndata.read_h5ad(tmp_path / "out.h5ad"), built(tmp_path, "embedding"))


def test_several_pools_are_matrices_of_observations(tmp_path: Path) -> None:
    made(tmp_path, pool="mean,cls")
    assert_same(anndata.read_h5ad(tmp_path / "out.h5ad"), built(tmp_path, "embedding_mean", "embedding_cls"))


def test_backed_only_the_rows_that_are_asked_for_are_read(tmp_path: Path) -> None:
    made(tmp_path)
    backed = anndata.read_h5ad(tmp_path / "out.h5ad", backed="r")
    assert backed.isbacked
    assert backed.obs_names[7] == "r7"
    np.testing.assert_array_equal(backed[5:9].X[:], array_of(tmp_path / "out.h5", "embeddings")[5:9])
    backed.file.close()


@pytest.mark.filterwarnings("ignore:The 'future.infer_string'")
def test_anndata_writes_the_same_elements_of_the_same_kinds(tmp_path: Path) -> None:
    """Names, kinds, versions and types: what it makes of what it has read is what we wrote."""
    import pandas as pd

    made(tmp_path)
    with pd.option_context("future.infer_string", False):  # strings that anndata can write again
        anndata.read_h5ad(tmp_path / "out.h5ad").write_h5ad(tmp_path / "theirs.h5ad")
    assert elements(tmp_path / "out.h5ad") == elements(tmp_path / "theirs.h5ad")


def elements(path: Path) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}

    def note(name: str, each: Any) -> None:
        kind = {key: str(each.attrs[key]) for key in each.attrs if key != "column-order"}
        found[name] = (kind, *([] if isinstance(each, h5py.Group) else [each.shape, each.dtype.kind]))

    with h5py.File(path) as file:
        note("/", file)
        file.visititems(note)
    return found


def test_ids_that_repeat_stay_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.fasta").write_text(">a\nMKV\n>a\nMKVG\n")
    embedded(tmp_path / "out.h5ad", [tmp_path / "a.fasta"])
    assert read_h5ad(tmp_path / "out.h5ad").obs_names.tolist() == ["a", "a"]
    with pytest.warns(UserWarning, match="not unique"):
        anndata.read_h5ad(tmp_path / "out.h5ad")


def test_two_exports_are_the_same_dataset_by_dataset(tmp_path: Path) -> None:
    job = made(tmp_path)
    job.export(tmp_path / "again.h5ad")
    assert_same(anndata.read_h5ad(tmp_path / "again.h5ad"), anndata.read_h5ad(tmp_path / "out.h5ad"))
    assert elements(tmp_path / "again.h5ad") == elements(tmp_path / "out.h5ad")
