"""The maps that the page was asked for: each made once, in a thread of its own, and kept while it is true."""

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from queue_app.dashboard.job_source import Place, load
from queue_app.dashboard.map.embedding_map import EmbeddingMap
from queue_app.dashboard.map.make_map import Tell, Wanted, make_map, settled
from queue_app.dashboard.map.projection import Method
from queue_app.dashboard.map.published_vectors import Published
from queue_app.errors import HoldfastError

KEPT_MOST = 8
PATIENCE_SECONDS = 0.8
"""So long a request waits for a map; a small one is there by then."""


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
            raise HoldfastError("this host does not see the job's directory, which it is drawn from")
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


def making_message(making: Making) -> dict[str, Any]:
    """How far a map is that has no points yet."""
    return {"made": False, "step": making.step, "share": making.share}
