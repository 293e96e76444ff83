"""What successive looks at a job tell together. What happened while nobody looked, the server keeps."""

import threading
from collections import deque
from dataclasses import dataclass, replace

from queue_app.dashboard.board import JobReader, Look
from queue_app.dashboard.crew import Crew, WorkerLine
from queue_app.dashboard.losses import with_losses

SAMPLES_KEPT = 450


@dataclass(frozen=True, slots=True)
class Board:
    """All that the page shows of one job."""

    look: Look
    workers: tuple[WorkerLine, ...]
    samples: tuple[tuple[float, int], ...]


class Watch:
    """One job, looked at again and again."""

    def __init__(self, reader: JobReader) -> None:
        self.reader = reader
        self._crew = Crew()
        self._last: Look | None = None
        self._samples: deque[tuple[float, int]] = deque(maxlen=SAMPLES_KEPT)
        # Who gives up waiting for a look does not end it: the next may be asked for meanwhile.
        self._looking = threading.Lock()

    def board(self) -> Board | None:
        """What is to be shown now. None: nobody who answers knows the job."""
        with self._looking:
            now = self.reader.look()
            return None if now is None else self._add(now)

    def _add(self, now: Look) -> Board:
        now = replace(now, cells=with_losses(self._last.cells if self._last else (), now.cells))
        self._last = now
        newest = self._samples[-1][0] if self._samples else float("-inf")
        self._samples.extend(sample for sample in now.samples if sample[0] > newest)
        return Board(now, self._crew.lines(now.summary.workers), tuple(self._samples))
