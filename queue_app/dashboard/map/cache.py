"""The maps that the page was asked for: each made once, in a thread of its own, and kept while it is true."""

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np

from queue_app.dashboard.job_source import Place, load
from queue_app.dashboard.map.colours import choices
from queue_app.dashboard.map.embedding_map import EmbeddingMap
from queue_app.dashboard.map.metadata import Metadata
from queue_app.dashboard.map.projection import Method, methods, project
from queue_app.dashboard.map.published_vectors import Published
from queue_app.dashboard.map.sampled_rows import draw
from queue_app.errors import HoldfastError, UsageError

KEPT_MOST = 8
PATIENCE_SECONDS = 0.8
"""So long a request waits for a map; a small one is there by then."""
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


@dataclass(frozen=True, slots=True)
class Offer:
    """What the map of a job can show, the defaults first."""

    columns: tuple[str, ...]
    methods: tuple[Method, ...]
    colours: tuple[str, ...]


class Making:
    """A map that is being made, or was. `step` and `share` say how far it is."""

    def __init__(self, make: Callable[[Tell], EmbeddingMap]) -> None:
        self.step = "waiting for another map"
        self.share: float | None = None
        self._made: Future[EmbeddingMap] = Future()
        # A daemon: Ctrl-C ends the page, whatever is being made.
        threading.Thread(target=self._run, args=[make], daemon=True).start()

    def wait(self, seconds: float) -> EmbeddingMap | None:
        """None when it takes longer. Raises what its making raised."""
        with contextlib.suppress(TimeoutError):
            return self._made.result(timeout=seconds)
        return None

    def _run(self, make: Callable[[Tell], EmbeddingMap]) -> None:
        try:
            self._made.set_result(make(self._tell))
        except BaseException as error:
            self._made.set_exception(error)

    def _tell(self, step: str, share: float | None) -> None:
        self.step, self.share = step, share


class Maps:
    """Every method may take long; each raises HoldfastError, and redis errors where the server is asked."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._kept: OrderedDict[tuple[str, str, Method], Making] = OrderedDict()

    def look(self, wanted: Wanted) -> EmbeddingMap | Making:
        """The map, or that it is being made. After an error the next look tries again."""
        published = self.published(wanted.job)
        column, method = settled(published, wanted)
        key = (published.key, column, method)
        making = self._making(key, partial(self._make, published, column, method))
        try:
            return making.wait(PATIENCE_SECONDS) or making
        except BaseException:
            with self._lock:
                self._kept.pop(key, None)
            raise

    def made(self, wanted: Wanted) -> EmbeddingMap:
        """Raises HoldfastError while it is being made."""
        found = self.look(wanted)
        if isinstance(found, Making):
            raise HoldfastError("the map is still being drawn")
        return found

    def published(self, job_id: str) -> Published:
        """What the job has published, which all of its maps are drawn from."""
        directory = self.place.of(job_id).directory_of(job_id)
        job = load(directory) if directory else None
        if directory is None or job is None or job.job_id != job_id:
            where = f" {directory.path}" if directory else ""
            raise HoldfastError(f"this host does not see the job's directory{where}, which it is drawn from")
        return Published.find(job, directory)

    def _making(self, key: tuple[str, str, Method], make: Callable[[Tell], EmbeddingMap]) -> Making:
        with self._lock:
            if key not in self._kept:
                self._kept[key] = Making(make)
            self._kept.move_to_end(key)
            while len(self._kept) > KEPT_MOST:
                self._kept.popitem(last=False)
            return self._kept[key]

    def _make(self, published: Published, column: str, method: Method, tell: Tell) -> EmbeddingMap:
        """One after the other: each holds its vectors while it is made."""
        with self._turn:
            return make_map(published, column, method, tell)


def settled(published: Published, wanted: Wanted) -> tuple[str, Method]:
    """The column and the layout that are meant. Raises UsageError for what there is not."""
    return _one_of(published.columns, wanted.column), _one_of(methods(), wanted.method)


def offer(published: Published, metadata: Metadata | None) -> Offer:
    return Offer(published.columns, methods(), choices(published, metadata))


def _one_of(known: tuple[Choice, ...], wanted: str) -> Choice:
    """The first where nothing is wanted."""
    found = next((each for each in known if wanted in ("", each)), None)
    if found is None:
        raise UsageError(f"{wanted!r}: there is {', '.join(known)}")
    return found


def making_message(making: Making) -> dict[str, Any]:
    """How far a map is that has no points yet."""
    return {"made": False, "step": making.step, "share": making.share}


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
