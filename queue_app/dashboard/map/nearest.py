"""The nearest neighbours of a record, by cosine, among all rows of its job."""

from dataclasses import dataclass, replace

import numpy as np

from queue_app.array_types import Floats
from queue_app.dashboard.map.published_vectors import Published, Rows
from queue_app.dashboard.map.sequence_texts import beginnings, is_kept

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


def nearest(published: Published, column: str, ordinal: int, most: int = NEAREST_MOST) -> list[Neighbour]:
    """The most similar rows to that of a record, which is none of them; equally similar ones by ordinal.

    One pass over the results. Records of one sequence are one row, under the id of the first.

    Raises:
        Damage: a result cannot be read.
    """
    vector = published.row(column, ordinal)
    best: list[Neighbour] = []
    for rows in published.rows(column):
        similarities = _cosines(rows.vectors, vector)
        similarities[rows.ordinals == ordinal] = -np.inf
        best += _best_of(rows, similarities, most)
        best = sorted(best, key=lambda found: (-found.similarity, found.ordinal))[:most]
    return best


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
