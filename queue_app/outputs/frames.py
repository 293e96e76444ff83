"""Vectors as a frame of pandas and as AnnData. Nothing else needs these two: they are imported here, late."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from queue_app.array_types import Int64s
from queue_app.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

PROVENANCE = "holdfast"
"""The key of AnnData's `uns`."""


def index_of(ids: Sequence[str]) -> "pd.Index[str]":
    """The ids, repeated ones too."""
    made: pd.Index[str] = _imported("pandas").Index(ids, dtype=object, name="id")
    return made


def index_of_tokens(ids: Sequence[str], offsets: Int64s) -> "pd.MultiIndex":
    """`id` and `position`, from 0, of every token; row i has those from `offsets[i]` to `offsets[i + 1]`."""
    lengths = np.diff(offsets)
    positions = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    of_tokens = np.repeat(np.array(ids, object), lengths)
    made: pd.MultiIndex = _imported("pandas").MultiIndex.from_arrays(
        [of_tokens, positions], names=["id", "position"]
    )
    return made


def frame_of(
    vectors: npt.NDArray[np.floating], index: "pd.Index[Any]", columns: Sequence[str]
) -> "pd.DataFrame":
    """[N, dim] or [N, columns, dim], not copied, under the names `column_0`, …."""
    names = [f"{column}_{number}" for column in columns for number in range(vectors.shape[-1])]
    side_by_side = np.asarray(vectors).reshape(len(vectors), len(names))
    made: pd.DataFrame = _imported("pandas").DataFrame(side_by_side, index, names, copy=False)
    return made


def ann_data(
    ids: Sequence[str],
    ordinals: Int64s,
    embeddings: npt.NDArray[np.floating],
    columns: Sequence[str],
    provenance: Mapping[str, str],
    kept: pa.Table,
) -> Any:
    """An AnnData of [N, dim], in `X`, or of [N, columns, dim], in `obsm`.

    Strings are Python's: not every AnnData can write those of pandas 3.
    """
    anndata, pandas = _imported("anndata"), _imported("pandas")
    names = anndata.utils.make_index_unique(pandas.Index(ids, dtype=object)).astype(object)
    obs = pandas.DataFrame({"id": pandas.Series(ids, names, object), "ordinal": ordinals}, index=names)
    for name in kept.column_names:
        obs[name] = _of_observations(kept.column(name), pandas)
    uns = {PROVENANCE: dict(provenance)}
    embeddings = np.asarray(embeddings)  # the same memory: its writers know no np.memmap
    is_one = embeddings.ndim == 2
    dimensions = [f"{columns[0]}_{number}" for number in range(embeddings.shape[1] if is_one else 0)]
    var = pandas.DataFrame(index=pandas.Index(dimensions, dtype=object))
    if is_one:
        return anndata.AnnData(embeddings, obs=obs, var=var, uns=uns)
    obsm = {column: embeddings[:, place] for place, column in enumerate(columns)}
    return anndata.AnnData(obs=obs, var=var, obsm=obsm, uns=uns)


def _of_observations(column: pa.ChunkedArray, pandas: Any) -> Any:
    """Texts are categories, as AnnData would make them, of Python's strings."""
    if not pa.types.is_string(column.type):
        return column.to_pandas().to_numpy()
    found = column.combine_chunks().dictionary_encode()
    categories = pandas.Index(found.dictionary.to_pylist(), dtype=object)
    return pandas.Categorical.from_codes(found.indices.fill_null(-1).to_numpy(), categories)


def _imported(package: str) -> Any:
    """Raises UsageError, with what to do, where it is not installed."""
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is not installed here: pip install {error.name}") from None
