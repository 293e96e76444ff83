"""The nearest neighbours of a record, by cosine, among all rows of its job."""

from dataclasses import dataclass, replace

import numpy as np

from queue_app.array_types import Floats, Int64s
from queue_app.dashboard.map.embedding_map import EmbeddingMap
from queue_app.dashboard.map.published_vectors import Published, Rows
from queue_app.dashboard.map.sequence_texts import beginnings, is_kept
from queue_app.job.result_rows import among

NEAREST_MOST = 10


@dataclass(frozen=True, slots=True)
class Neighbour:
    """`similarity` is the cosine of the angle between both vectors, 0 where one of them is zero.

    `beginning` are the first letters of the sequence, as far as the job still has it.
    """

    ordinal: int
    id: str
    similarity: float
    beginning: str = ""


def nearest(
    published: Published, column: str, ordinal: int, most: int = NEAREST_MOST, of: Int64s | None = None
) -> list[Neighbour]:
    """The most similar rows to that of a record, which is none of them; equally similar ones by ordinal.

    One pass over the results. Records of one sequence are one row, under the id of the first. With `of`, only
    these rows count, whose ordinals ascend.

    Raises:
        Damage: a result cannot be read.
    """
    vector = published.row(column, ordinal)
    best: list[Neighbour] = []
    for rows in published.rows(column):
        similarities = _cosines(rows.vectors, vector)
        similarities[rows.ordinals == ordinal] = -np.inf
        if of is not None:
            similarities[~among(rows.ordinals, of)] = -np.inf
        best += _best_of(rows, similarities, most)
        best = sorted(best, key=lambda found: (-found.similarity, found.ordinal))[:most]
    return best


def neighbourhood(embedding_map: EmbeddingMap, ordinal: int) -> list[Neighbour]:
    """The row of a record, whether it is drawn or not, and then those that are nearest to it, of all records.

    Raises UsageError for a record that has no vector, and Damage.
    """
    published, column = embedding_map.published, embedding_map.column
    row = published.row_of(ordinal)
    itself = Neighbour(row, "", 1.0)
    return with_beginnings(published, [itself, *nearest(published, column, row)])


@dataclass(frozen=True, slots=True)
class Spot:
    """Where on a map a record belongs that is not drawn, in parts of its extent.

    `beside` is None where that is its own place, and else the drawn record that is nearest to it, whose place
    it is: UMAP has none for a vector that it has not seen.
    """

    x: float
    y: float
    beside: Neighbour | None = None


def spot(embedding_map: EmbeddingMap, ordinal: int) -> Spot:
    """Raises UsageError for a record that has no vector, and Damage."""
    published, column = embedding_map.published, embedding_map.column
    row = published.row_of(ordinal)
    if embedding_map.plane is not None:
        x, y = (embedding_map.plane.place(published.row(column, row)) / embedding_map.extent).tolist()
        return Spot(x, y)
    (beside,) = nearest(published, column, row, most=1, of=embedding_map.rows)
    place = int(np.flatnonzero(embedding_map.rows[embedding_map.places] == beside.ordinal)[0])
    x, y = (embedding_map.points[place] / embedding_map.extent).tolist()
    return Spot(x, y, replace(beside, id=embedding_map.ids[place]))


def with_beginnings(published: Published, found: list[Neighbour]) -> list[Neighbour]:
    """Raises Damage where a shard's file cannot be read."""
    if not is_kept(published.job, published.job_dir):
        return found
    ordinals = np.array(sorted({each.ordinal for each in found}), np.int64)
    texts = beginnings(published.job, published.job_dir, ordinals)
    begun = dict(zip(ordinals.tolist(), texts, strict=True))
    return [replace(each, beginning=begun[each.ordinal]) for each in found]


def _cosines(vectors: Floats, vector: Floats) -> Floats:
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(vector)
    cosines: Floats = np.divide(vectors @ vector, norms, out=np.zeros_like(norms), where=norms > 0)
    return cosines


def _best_of(rows: Rows, similarities: Floats, most: int) -> list[Neighbour]:
    places = np.argsort(-similarities, kind="stable")[:most]
    return [
        Neighbour(int(rows.ordinals[place]), rows.ids[int(place)].as_py(), float(similarities[place]))
        for place in places
        if np.isfinite(similarities[place])
    ]
