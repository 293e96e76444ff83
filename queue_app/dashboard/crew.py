"""The workers of a job as successive looks show them: their rates, and what becomes of them."""

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass

from queue_app.dashboard.happened import Line
from queue_app.dashboard.look import Look
from queue_app.monitor import WorkerView

RATE_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class WorkerLine:
    """One worker; `rate` is sequences a second, `restarts` how often its process was seen to be replaced."""

    view: WorkerView
    rate: float
    restarts: int


@dataclass(frozen=True, slots=True)
class _Gain:
    time: float
    worker: str
    num_sequences: int


class Crew:
    """Of one job."""

    def __init__(self) -> None:
        self._began = 0.0
        self._gains: deque[_Gain] = deque()
        self._pids: dict[str, tuple[int, int]] = {}
        self._here: set[str] = set()
        self._restarts: Counter[str] = Counter()

    def add(self, before: Look | None, now: Look) -> list[Line]:
        """Take in one look; answers what happened to the workers. Only a server knows of any."""
        if now.source != "server":
            return []
        lines = list(self._arrivals(now)) + list(self._departures(now))
        if before is not None and now.time - before.time < RATE_SECONDS:
            self._count(before, now)
        else:
            self._gains.clear()
            self._began = now.time
        return [] if before is None else lines

    def lines(self, now: Look) -> tuple[WorkerLine, ...]:
        """Every worker there is, with what is known of it."""
        seconds = min(now.time - self._began, RATE_SECONDS)
        gained: Counter[str] = Counter()
        for gain in self._gains:
            gained[gain.worker] += gain.num_sequences
        return tuple(
            WorkerLine(view, gained[view.name] / seconds if seconds > 0 else 0.0, self._restarts[view.name])
            for view in now.summary.workers
        )

    def _arrivals(self, now: Look) -> Iterator[Line]:
        """A child that is being replaced has the pid 0 for a moment."""
        for view in now.summary.workers:
            pid, child_pid = self._pids.get(view.name, (0, 0))
            if not pid:
                yield "note", f"worker {view.name} is here"
            elif pid != view.pid:
                self._restarts[view.name] += 1
                yield "good", f"worker {view.name} was started again, as process {view.pid}"
            elif child_pid and view.child_pid not in (0, child_pid):
                self._restarts[view.name] += 1
                yield "bad", f"worker {view.name}: process {child_pid} died, {view.child_pid} takes its place"
            self._pids[view.name] = (view.pid, view.child_pid or child_pid)

    def _departures(self, now: Look) -> Iterator[Line]:
        here = {view.name for view in now.summary.workers}
        for name in sorted(self._here - here):
            yield "note" if now.summary.ended else "bad", f"worker {name} is gone"
        self._here = here

    def _count(self, before: Look, now: Look) -> None:
        known = {cell.index: cell.done for cell in before.cells}
        for cell in now.cells:
            gained = cell.done - known.get(cell.index, cell.done)
            if gained > 0 and cell.worker:
                self._gains.append(_Gain(now.time, cell.worker, gained))
        while self._gains and now.time - self._gains[0].time > RATE_SECONDS:
            self._gains.popleft()
