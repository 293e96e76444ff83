"""One map: where the embeddings of a job's records lie on a plane."""

from dataclasses import dataclass

import numpy as np

from queue_app.array_types import Floats, Int64s
from queue_app.dashboard.map.published_vectors import Published
from queue_app.errors import UsageError


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

    def find(self, ordinal: int) -> int:
        """The place of a record among the points. Raises UsageError for one that is not on the map."""
        place = int(np.searchsorted(self.ordinals, ordinal))
        if place == len(self.ordinals) or self.ordinals[place] != ordinal:
            raise UsageError(f"record {ordinal} is not on the map")
        return place
