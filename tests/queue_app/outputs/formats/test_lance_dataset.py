"""Data sets of Lance: rows and types as in the tables, errors by their own name, changes of others kept."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from queue_app.errors import Damage, UsageError
from queue_app.ingest.request import EmbedRequest
from queue_app.ingest.settle import settle
from queue_app.outputs.content import Content
from tests.support.inline_job import InlineJob, embedded, write_numbered
from tests.support.output_files import lance, table_of, vectors_of


def made(tmp_path: Path, name: str = "out.lance", **options: str) -> InlineJob:
    return embedded(tmp_path / name, [write_numbered(tmp_path / "a.fasta", [*range(40), 3])], **options)


@pytest.mark.parametrize("options", [{}, {"pool": "mean,cls"}, {"pool": "none"}], ids=str)
def test_it_is_the_table_that_the_parquet_file_is(tmp_path: Path, options: dict[str, str]) -> None:
    job = made(tmp_path, **options)
    job.export(tmp_path / "out.parquet")
    found, expected = table_of(tmp_path / "out.lance"), table_of(tmp_path / "out.parquet")
    assert found.schema.names == expected.schema.names
    assert found.combine_chunks().to_pylist() == expected.combine_chunks().to_pylist()
    assert lance().dataset(str(tmp_path / "out.lance")).schema.metadata[b"model_name"] == b"mock:8"


def test_lance_finds_each_vector_first_among_all(tmp_path: Path) -> None:
    made(tmp_path)
    data = lance().dataset(str(tmp_path / "out.lance"))
    for row, vector in enumerate(vectors_of(tmp_path / "out.lance")[:40]):
        nearest = {"column": "embedding", "q": vector, "k": 2}
        assert f"r{row}" in data.to_table(nearest=nearest, columns=["id"])["id"].to_pylist()


def test_what_stops_the_reading_is_raised_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = made(tmp_path)

    def damaged(self: Content) -> object:
        raise Damage("shard 1 is damaged")
        yield

    monkeypatch.setattr(Content, "batches", damaged)
    with pytest.raises(Damage, match=r"^shard 1 is damaged$"):
        job.export()
    assert len(table_of(tmp_path / "out.lance")) == 41


def test_a_data_set_that_somebody_went_on_with_is_never_replaced(tmp_path: Path) -> None:
    job = made(tmp_path)
    job.export()  # as it was written it may be
    more = pa.table({"id": ["mine"], "embedding": pa.array([np.ones(8)], pa.list_(pa.float32(), 8))})
    lance().write_dataset(more, str(tmp_path / "out.lance"), mode="append")
    with pytest.raises(UsageError, match=r"out\.lance: was changed since it was written"):
        job.export()
    assert len(table_of(tmp_path / "out.lance")) == 42


def test_an_index_of_it_is_not_removed(tmp_path: Path) -> None:
    job = made(tmp_path)
    (tmp_path / "out.lance" / "_indices").mkdir()
    with pytest.raises(UsageError, match=r"_indices lies in it"):
        job.export()


def test_without_lance_one_line_says_what_to_install_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lance", None)
    monkeypatch.setattr("queue_app.job.output_names.find_spec", lambda name: None)
    asked: Any = {"inputs": [tmp_path / "is not there"], "model": "mock:8", "output": tmp_path / "out.lance"}
    with pytest.raises(UsageError, match=r"out\.lance: .*pip install 'holdfast\[lance\]'"):
        settle(EmbedRequest(**asked))
