"""What a result is to pandas, AnnData, notebooks and type checkers, held against tables made by hand."""

import sys
import warnings
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest

from queue_app.api.job_handle import JobHandle
from queue_app.errors import UsageError, WrongReadout
from queue_app.job.directory import JobDir
from queue_app.outputs.arrays import open_result
from queue_app.outputs.result import Result
from tests.support.inline_job import embedded
from tests.support.jobs_and_inputs import protein

RECORDS = {"b": 3, "a": 1, "<i>&": 5}


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    """Five proteins, two of one name, and one with a digit in it."""
    path = tmp_path / "a.fasta"
    records = [*RECORDS.items(), ("b", 7), ("b", 8)]
    path.write_text("".join(f">{name}\n{protein(number)}\n" for name, number in records) + ">no<b>\nM4\n")
    return path


def result_of(fasta: Path, **options: Any) -> Result:
    made = embedded(fasta.with_name("out.h5"), [fasta], **options)
    return open_result(made.job, made.job_dir)


IDS = ["b", "a", "<i>&", "b", "b"]


def written(fasta: Path, name: str) -> Any:
    """What the .h5 has, read by h5py."""
    with h5py.File(fasta.with_name("out.h5")) as file:
        return file[name][:]


# ---- arrays and residues


def test_embeddings_are_an_array_and_residues_are_not_there(fasta: Path) -> None:
    result = result_of(fasta)
    weights = np.arange(8, dtype=np.float32)
    np.testing.assert_array_equal(result.embeddings @ weights, written(fasta, "embeddings") @ weights)
    with pytest.raises(WrongReadout, match=r"read result.embeddings, not result.residues"):
        result.residues  # noqa: B018
    assert not hasattr(result, "residues")


def test_of_a_job_of_residues_they_are_read_and_embeddings_say_so(fasta: Path) -> None:
    result = result_of(fasta, pool="none")
    assert [len(vectors) for vectors in result.residues] == [len(protein(n)) for n in (3, 1, 5, 7, 8)]
    with pytest.raises(WrongReadout, match=r"read result.residues"):
        result.embeddings  # noqa: B018
    with pytest.raises(WrongReadout, match=r"read result.residues"):
        result.to_anndata()


# ---- pandas


def test_a_frame_has_the_ids_as_index_and_a_column_for_every_number(fasta: Path) -> None:
    expected = pd.DataFrame(
        {f"embedding_{place}": column for place, column in enumerate(result_of(fasta).embeddings.T)},
        index=pd.Index(IDS, dtype=object, name="id"),
    )
    pd.testing.assert_frame_equal(result_of(fasta).to_pandas(), expected)
    np.testing.assert_array_equal(expected.to_numpy(), written(fasta, "embeddings"))


def test_a_frame_reads_from_the_disk_what_is_looked_at_and_a_copy_can_be_changed(fasta: Path) -> None:
    result = result_of(fasta)
    frame = result.to_pandas()
    assert np.shares_memory(frame.to_numpy(), result.embeddings)
    own = frame.copy()
    own.iloc[0, 0] = 5
    own["length"] = [1, 2, 3, 4, 5]
    assert (own.iloc[0, 0], frame.iloc[0, 0]) == (5, result.embeddings[0, 0])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_of_several_pools_and_layers_the_columns_stand_side_by_side(fasta: Path, dtype: str) -> None:
    result = result_of(fasta, pool="mean,cls", layers=(1, -1), store_dtype=dtype)
    frame = result.to_pandas()
    assert frame.shape == (5, 32)
    for name in ("embedding_layer_1_mean", "embedding_layer_3_cls"):
        part = frame[[f"{name}_{place}" for place in range(8)]]
        np.testing.assert_array_equal(part.to_numpy(), written(fasta, name.replace("ing", "ings", 1)))
        assert set(part.dtypes) == {np.dtype(dtype)}


def test_a_frame_of_residues_has_a_row_for_each(fasta: Path) -> None:
    result = result_of(fasta, pool="none")
    places = [
        (name, place) for name, row in zip(IDS, result.residues, strict=True) for place in range(len(row))
    ]
    index = pd.MultiIndex.from_tuples(places, names=["id", "position"])
    names = [f"embedding_{place}" for place in range(8)]
    expected = pd.DataFrame(written(fasta, "embeddings"), index=index, columns=names)
    pd.testing.assert_frame_equal(result.to_pandas(), expected, check_index_type=False)
    assert result.to_pandas().loc[("a", 2)].tolist() == result.residues[1][2].tolist()


def test_of_no_rows_there_is_an_empty_frame(tmp_path: Path) -> None:
    (tmp_path / "a.fasta").write_text(">bad\nM4\n")
    result = result_of(tmp_path / "a.fasta")
    assert result.to_pandas().shape == result.to_anndata().shape == (0, 8)


# ---- AnnData


def test_anndata_has_the_vectors_the_ids_and_the_provenance_also_when_written(
    fasta: Path, tmp_path: Path
) -> None:
    result = result_of(fasta)
    made = result.to_anndata()
    expected = anndata.AnnData(
        written(fasta, "embeddings"),
        obs=pd.DataFrame({"id": IDS, "ordinal": [0, 1, 2, 3, 4]}, index=["b", "a", "<i>&", "b-1", "b-2"]),
        var=pd.DataFrame(index=[f"embedding_{place}" for place in range(8)]),
    )
    np.testing.assert_array_equal(made.X, expected.X)
    for frame, wanted in ((made.obs, expected.obs), (made.var, expected.var)):
        pd.testing.assert_frame_equal(frame, wanted, check_index_type=False, check_dtype=False)
    made.write_h5ad(tmp_path / "out.h5ad")
    again = anndata.read_h5ad(tmp_path / "out.h5ad")
    np.testing.assert_array_equal(again.X, expected.X)
    assert again.uns["holdfast"]["model_name"] == "mock:8"
    with h5py.File(fasta.with_name("out.h5")) as file:
        assert again.uns["holdfast"] == dict(file.attrs) == result.provenance


def test_anndata_of_several_pools_has_each_under_its_name(fasta: Path) -> None:
    made = result_of(fasta, pool="mean,cls").to_anndata()
    made.write_h5ad(fasta.with_name("out.h5ad"))
    assert (made.X, sorted(made.obsm)) == (None, ["embedding_cls", "embedding_mean"])
    for name in made.obsm:
        np.testing.assert_array_equal(made.obsm[name], written(fasta, name.replace("ing", "ings", 1)))


def test_what_stays_with_the_records_stands_beside_their_rows(tmp_path: Path) -> None:
    (tmp_path / "a.fasta").write_text(">b of mine\nMKV\n>bad one\nM4\n>a\nMKVA\n>c yours\nMK\n")
    result = result_of(tmp_path / "a.fasta")
    assert result.kept.to_pydict() == {"description": ["of mine", None, "yours"]}
    result.to_anndata().write_h5ad(tmp_path / "out.h5ad")
    described = anndata.read_h5ad(tmp_path / "out.h5ad").obs["description"]
    assert [each if isinstance(each, str) else None for each in described] == ["of mine", None, "yours"]


def test_what_keeps_nothing_has_no_columns_of_it(tmp_path: Path) -> None:
    (tmp_path / "a.fasta").write_text(">b\nMKV\n")
    assert result_of(tmp_path / "a.fasta").kept.column_names == []


def test_no_warning_is_due_to_ids_that_repeat(fasta: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert result_of(fasta).to_anndata().obs_names.is_unique


@pytest.mark.parametrize(("call", "package"), [("to_pandas", "pandas"), ("to_anndata", "anndata")])
def test_what_is_not_installed_is_named_with_what_to_do(
    fasta: Path, monkeypatch: pytest.MonkeyPatch, call: str, package: str
) -> None:
    result = result_of(fasta)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=f"^{package} is not installed here: pip install {package}$"):
        getattr(result, call)()


# ---- notebooks


class Cells(HTMLParser):
    """The texts of a table, as a browser shows them; any tag that is none of a table's is noted."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.others: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.others |= {tag} - {"table", "caption", "tbody", "tr", "th", "td"}

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_a_notebook_shows_the_first_rows_and_what_was_quarantined_as_text(fasta: Path) -> None:
    result = result_of(fasta)
    shown = Cells(result._repr_html_())
    assert shown.others == set()
    assert shown.texts[0] == "Result: 5 rows of 8 float32, 1 quarantined"
    assert shown.texts[1::2] == [*IDS, "no<b>"]
    first = " ".join(f"{number:.3f}" for number in result.embeddings[0, :4])
    assert shown.texts[2] == f"[8] {first} …"
    assert shown.texts[-1].startswith("quarantined: ")


def test_a_notebook_shows_few_of_many_rows_and_the_shapes_of_residues(tmp_path: Path) -> None:
    path = tmp_path / "a.fasta"
    path.write_text("".join(f">{'x' * 200}{number}\n{protein(number)}\n" for number in range(120)))
    shown = Cells(result_of(path, pool="none", num_shards=1)._repr_html_())
    assert shown.texts[-2:] == ["…", "115 more"]
    assert len(shown.texts) == 1 + 2 * 6
    assert shown.texts[2].startswith(f"[{len(protein(0))} x 8] ")
    assert max(map(len, shown.texts)) == 80


def test_a_notebook_shows_how_far_a_job_is(fasta: Path) -> None:
    made = embedded(fasta.with_name("out.h5"), [fasta])
    job = JobHandle(made.job_dir)
    html = job._repr_html_()
    assert html is not None
    shown = Cells(html)
    assert shown.texts == [
        f"Job {job.id}", "state", "done", "sequences", "5 of 6 embedded", "quarantined", "1",
        "output", str(job.output),
    ]  # fmt: skip


def test_of_a_job_that_nobody_knows_a_notebook_shows_the_name(tmp_path: Path) -> None:
    assert JobHandle(JobDir(tmp_path / "gone"))._repr_html_() is None
