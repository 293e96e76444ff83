"""One map: where the embeddings of a job's records lie on a plane."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from queue_app.dashboard.map.projection import Method, project
from queue_app.dashboard.map.published_vectors import Floats, Published
from queue_app.dashboard.map.sampled_rows import draw
from queue_app.errors import UsageError
from queue_app.job.duplicates import Int64s

LAYING_OUT = {
    Method.PCA: "laying them out",
    Method.UMAP: "laying them out by UMAP, whose first map takes half a minute to compile",
}
Tell = Callable[[str, float | None], None]
"""Called with the step that is under way, and the share of it that is done; None: not known."""


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


def make_map(published: Published, column: str, method: Method, tell: Tell) -> EmbeddingMap:
    """Raises Damage where a result is not the one that was published."""
    published.check(lambda share: tell("checking the results", share))
    drawn = draw(published, column, lambda share: tell("reading the vectors", share))
    tell(LAYING_OUT[method], None)
    projection = project(drawn.vectors, method)
    points = projection.points[drawn.places]
    return EmbeddingMap(
        published, column, drawn.ids, drawn.ordinals, drawn.places, drawn.rows, points, projection.shares
    )
