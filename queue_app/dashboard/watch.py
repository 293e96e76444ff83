"""What successive looks at a job tell together.

Of what happened while nobody looked it knows what the server keeps, and the state that it left.
"""

import threading
from collections import deque
from dataclasses import dataclass, replace

from queue_app.dashboard.crew import Crew, WorkerLine
from queue_app.dashboard.happened import Kind, found, happened, kind_of, with_losses
from queue_app.dashboard.look import JobReader, Look

EVENTS_KEPT = 200
SAMPLES_KEPT = 450


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. `number` rises by one from event to event of a job."""

    number: int
    time: float
    kind: Kind
    text: str


@dataclass(frozen=True, slots=True)
class Board:
    """All that the page shows of one job."""

    look: Look
    workers: tuple[WorkerLine, ...]
    samples: tuple[tuple[float, int], ...]
    events: tuple[Event, ...]


class Watch:
    """One job, looked at again and again."""

    def __init__(self, reader: JobReader) -> None:
        self.reader = reader
        self._crew = Crew()
        self._last: Look | None = None
        self._events: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self._samples: deque[tuple[float, int]] = deque(maxlen=SAMPLES_KEPT)
        # Who gives up waiting for a look does not end it: the next may be asked for meanwhile.
        self._looking = threading.Lock()

    def board(self) -> Board | None:
        """What is to be shown now. None: nobody who answers knows the job."""
        with self._looking:
            now = self.reader.look()
            return None if now is None else self._add(now)

    def _add(self, now: Look) -> Board:
        before = self._last
        now = replace(now, cells=with_losses(before.cells if before else (), now.cells))
        self._note(before, now)
        self._last = now
        newest = self._samples[-1][0] if self._samples else float("-inf")
        self._samples.extend(sample for sample in now.samples if sample[0] > newest)
        return Board(now, self._crew.lines(now), tuple(self._samples), tuple(self._events))

    def _note(self, before: Look | None, now: Look) -> None:
        for kept in now.summary.events if before is None else ():
            self._append(kept.time, kind_of(kept), kept.text)
        lines = [*self._crew.add(before, now), *(happened(before, now) if before else found(now))]
        for kind, text in lines:
            self._append(now.time, kind, text)

    def _append(self, time: float, kind: Kind, text: str) -> None:
        number = self._events[-1].number + 1 if self._events else 1
        self._events.append(Event(number, time, kind, text))
