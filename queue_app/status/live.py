"""The live view on a terminal: a job's picture, drawn anew with each snapshot."""

import time
from dataclasses import replace

from rich.console import Console, RenderableType
from rich.live import Live
from rich.spinner import Spinner

from queue_app.coordination.events import Event
from queue_app.shown import visible_lines
from queue_app.status.job_snapshot import JobSnapshot
from queue_app.status.picture import picture
from queue_app.status.worker_history import WorkerHistory

LINES_BESIDE_WORKERS = 16
"""What the view needs of a terminal's height beside the workers: bar, headings, events, and what was said."""


class LiveView:
    """Messages scroll by above the picture; the last one stays when the run has ended.

    A run that is `timed` begins with the view, which tells the time that has passed, and nothing of what
    happened before.
    """

    def __init__(self, console: Console, *, timed: bool = True) -> None:
        self._began = time.monotonic() if timed else None
        self._now: JobSnapshot | None = None
        self._earlier: frozenset[Event] | None = None if timed else frozenset()
        self._workers = WorkerHistory()
        self._live = Live(console=console, get_renderable=self._picture, refresh_per_second=4)

    def say(self, text: str) -> None:
        self._live.console.print(visible_lines(text), highlight=False, markup=False)

    def update(self, now: JobSnapshot) -> None:
        if self._earlier is None:
            self._earlier = frozenset(now.events)
        events = tuple(event for event in now.events if event not in self._earlier)
        workers = tuple(worker.view for worker in self._workers.look(now))
        self._now = replace(now, workers=workers, events=events)
        if now.ended:
            self._live.refresh()

    def _picture(self) -> RenderableType:
        if self._now is None:
            return Spinner("dots", "starting: the workers come up while the input is read")
        seconds = None if self._began is None else time.monotonic() - self._began
        width, height = self._live.console.size
        return picture(self._now, seconds, width, max(2, height - LINES_BESIDE_WORKERS))

    def __enter__(self) -> "LiveView":
        self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._live.stop()
