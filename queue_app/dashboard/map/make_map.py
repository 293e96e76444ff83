"""A map is made: results checked, vectors drawn, laid out; and told to whoever shows it."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np

from queue_app.dashboard.map.embedding_map import EmbeddingMap
from queue_app.dashboard.map.offer import Offer
from queue_app.dashboard.map.projection import Method, methods, project
from queue_app.dashboard.map.published_vectors import Published
from queue_app.dashboard.map.sampled_rows import draw
from queue_app.errors import UsageError

LAYING_OUT = {
    Method.PCA: "laying them out",
    Method.UMAP: "laying them out by UMAP, whose first map takes half a minute to compile",
}
Tell = Callable[[str, float | None], None]
"""Called with the step that is under way, and the share of it that is done; None: not known."""
Choice = TypeVar("Choice", bound=str)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a map is of. `column` and `method` are empty for the first that there is."""

    job: str
    column: str = ""
    method: str = ""


def make_map(published: Published, column: str, method: Method, tell: Tell) -> EmbeddingMap:
    """Raises Damage where a result is not the one that was published."""
    published.check(lambda share: tell("checking the results", share))
    drawn = draw(published, column, lambda share: tell("reading the vectors", share))
    tell(LAYING_OUT[method], None)
    projection = project(drawn.vectors, method)
    points = projection.points[drawn.places]
    return EmbeddingMap(
        published, column, drawn.ids, drawn.ordinals, drawn.places, drawn.rows, points,
        projection.shares, projection.plane,
    )  # fmt: skip


def map_message(found: EmbeddingMap, offer: Offer) -> dict[str, Any]:
    """The points, and what else there is; x and y are at most 1, and as exact as a screen."""
    x, y = (found.points / found.extent).astype(np.float64).round(5).T.tolist()
    return {
        "made": True,
        **asdict(offer),
        "num_embedded": found.published.num_embedded,
        "num_records": found.published.job.counts.num_records,
        "is_text": found.published.job.options.alphabet == "text",
        "shares": found.shares,
        "ids": found.ids,
        "ordinals": found.ordinals.tolist(),
        "x": x,
        "y": y,
    }


def settled(published: Published, wanted: Wanted) -> tuple[str, Method]:
    """The column and the layout that are meant. Raises UsageError for what there is not."""
    return _one_of(published.columns, wanted.column), _one_of(methods(), wanted.method)


def _one_of(known: tuple[Choice, ...], wanted: str) -> Choice:
    """The first where nothing is wanted."""
    found = next((each for each in known if wanted in ("", each)), None)
    if found is None:
        raise UsageError(f"{wanted!r}: there is {', '.join(known)}")
    return found
