"""What the points of a map are coloured by: a number on a scale, or one of some names."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from queue_app.dashboard.map.embedding_map import EmbeddingMap
from queue_app.dashboard.map.kept_texts import kept_names, kept_values
from queue_app.dashboard.map.metadata import Metadata
from queue_app.dashboard.map.offer import PLACE, choices
from queue_app.dashboard.map.sequence_texts import lengths
from queue_app.errors import UsageError

ENDS = (2, 98)
"""Percentiles at which a scale ends: a few huge lengths would leave a single colour to all others."""


@dataclass(frozen=True, slots=True)
class Scale:
    """A number for each point; `low` and `high` are where the colours end, not the least and the greatest."""

    values: list[float | None]
    low: float
    high: float
    kind: Literal["scale"] = "scale"


@dataclass(frozen=True, slots=True)
class Names:
    """For each point its place in `names`, the most frequent first; `counts` are of points."""

    values: list[int | None]
    names: list[str]
    counts: list[int]
    kind: Literal["names"] = "names"


def colour(embedding_map: EmbeddingMap, by: str, metadata: Metadata | None) -> Scale | Names:
    """Raises UsageError for what is no choice, and Damage."""
    values = _values(embedding_map, by, metadata)
    return _scale(values) if pa.types.is_floating(values.type) else _names(values)


def _values(embedding_map: EmbeddingMap, by: str, metadata: Metadata | None) -> pa.Array:
    if by not in choices(embedding_map.published, metadata):
        raise UsageError(f"no column {by!r} to colour by")
    if metadata and by in metadata.columns:
        return metadata.values(by, embedding_map.ids)
    published = embedding_map.published
    if by in kept_names(published.job):
        return kept_values(published.job, published.job_dir, by, embedding_map.ordinals)
    if by == PLACE:
        return pa.array(embedding_map.ordinals + 1.0)
    of_rows = lengths(published.job, published.job_dir, embedding_map.rows)
    return pa.array(np.array(of_rows, np.float64)[embedding_map.places])


def _scale(values: pa.Array) -> Scale:
    finite = values.filter(pc.is_finite(values)).to_numpy()
    low, high = np.percentile(finite, ENDS).tolist() if len(finite) else (0.0, 1.0)
    shown = pc.if_else(pc.is_finite(values), values, pa.scalar(None, pa.float64()))
    return Scale(shown.to_pylist(), low, high)


def _names(values: pa.Array) -> Names:
    found = pc.value_counts(values.drop_null())
    counts = found.field("counts").to_numpy()
    order = pa.array(np.argsort(-counts, kind="stable"))
    names = found.field("values").take(order)
    places = pc.index_in(values, value_set=names, skip_nulls=True)
    return Names(places.to_pylist(), names.to_pylist(), counts[order.to_numpy()].tolist())
