"""One map: where the embeddings of a job's records lie on a plane."""

from dataclasses import dataclass

import numpy as np

from queue_app.array_types import Floats, Int64s
from queue_app.dashboard.map.projection import Plane
from queue_app.dashboard.map.published_vectors import Published
from queue_app.errors import UsageError
from queue_app.job.result_rows import among


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingMap:
    """n records by ordinal; the row of each, which records of one sequence share, is `rows[places]`."""

    published: Published
    column: str
    ids: list[str]
    ordinals: Int64s
    places: Int64s
    rows: Int64s
    points: Floats
    """[n, 2]"""
    shares: tuple[float, ...]
    plane: Plane | None = None
    """None where further vectors cannot be put among the points."""

    @property
    def extent(self) -> float:
        """The greatest coordinate there is: what is told of the points is told in parts of it."""
        return float(np.abs(self.points).max(initial=0)) or 1.0

    def find(self, ordinals: Int64s) -> Int64s:
        """Their places among the points. Raises UsageError for one that is not on the map."""
        there = among(ordinals, self.ordinals)
        if not there.all():
            raise UsageError(f"record {ordinals[~there][0]} is not on the map")
        return np.searchsorted(self.ordinals, ordinals)
