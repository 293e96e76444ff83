"""The live view on a terminal: a job's picture, drawn anew with each snapshot.

A worker between two shards has none for a moment, and no figures; then it is shown as it was before.
"""

import time
from dataclasses import replace

from rich.console import Console, RenderableType
from rich.live import Live
from rich.spinner import Spinner

from queue_app.coordination.events import Event
from queue_app.coordination.states import JobState
from queue_app.status.picture import picture
from queue_app.status.snapshot import JobSnapshot, WorkerView

LINES_BESIDE_WORKERS = 16
"""What the view needs of a terminal's height beside the workers: bar, headings, events, and what was said."""
BETWEEN_SHARDS_SECONDS = 1.0


class LiveView:
    """Messages scroll by above the picture; the last one stays when the run has ended.

    A run that is `timed` begins with the view, which tells the time that has passed, and nothing of what
    happened before.
    """

    def __init__(self, console: Console, *, timed: bool = True) -> None:
        self._began = time.monotonic() if timed else None
        self._now: JobSnapshot | None = None
        self._earlier: frozenset[Event] | None = None if timed else frozenset()
        self._at_work: dict[str, tuple[float, WorkerView]] = {}
        self._live = Live(console=console, get_renderable=self._picture, refresh_per_second=4)

    def say(self, text: str) -> None:
        self._live.console.print(text, highlight=False, markup=False)

    def update(self, now: JobSnapshot) -> None:
        if self._earlier is None:
            self._earlier = frozenset(now.events)
        events = tuple(event for event in now.events if event not in self._earlier)
        is_running = now.state is JobState.RUNNING
        workers = tuple(self._steadied(worker) for worker in now.workers) if is_running else now.workers
        self._now = replace(now, workers=workers, events=events)
        if now.ended:
            self._live.refresh()

    def _steadied(self, worker: WorkerView) -> WorkerView:
        """As it was just now, where it has no shard or no figures yet and its process is the same."""
        time_now = time.monotonic()
        seen, before = self._at_work.get(worker.name, (0.0, worker))
        if before.child_pid != worker.child_pid or time_now - seen > BETWEEN_SHARDS_SECONDS:
            before = worker
        if worker.shard is None:
            return before
        steadied = replace(worker, figures=worker.figures or before.figures)
        self._at_work[worker.name] = (time_now, steadied)
        return steadied

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
