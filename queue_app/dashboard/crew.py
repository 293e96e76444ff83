"""The workers of a job as successive looks show them: what `status` shows, and how often each restarted."""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from queue_app.coordination.worker_figures import Figures
from queue_app.status.snapshot import WorkerView

FIGURES_KEPT_SECONDS = 5.0
"""A worker between two shards has no figures for a moment; then its last ones are shown."""


@dataclass(frozen=True, slots=True)
class WorkerLine:
    """One worker; `restarts` is how often its process was seen to be replaced."""

    view: WorkerView
    restarts: int


class Crew:
    """Of one job."""

    def __init__(self) -> None:
        self._pids: dict[str, tuple[int, int]] = {}
        self._restarts: Counter[str] = Counter()
        self._figures: dict[str, tuple[float, Figures]] = {}

    def lines(self, workers: Iterable[WorkerView]) -> tuple[WorkerLine, ...]:
        """Take in one look at them; answers every worker there is, with what is known of it."""
        return tuple(self._line(view) for view in workers)

    def _line(self, view: WorkerView) -> WorkerLine:
        pid, child_pid = self._pids.get(view.name, (view.pid, 0))
        is_same = pid == view.pid
        if not is_same or (child_pid and view.child_pid not in (0, child_pid)):
            self._restarts[view.name] += 1
        # A child that is being replaced has the pid 0 for a moment; a parent took its own along.
        self._pids[view.name] = (view.pid, view.child_pid or (child_pid if is_same else 0))
        return WorkerLine(self._with_figures(view), self._restarts[view.name])

    def _with_figures(self, view: WorkerView) -> WorkerView:
        now = time.monotonic()
        if view.figures is not None:
            self._figures[view.name] = (now, view.figures)
            return view
        seen, figures = self._figures.get(view.name, (float("-inf"), None))
        return replace(view, figures=figures) if now - seen < FIGURES_KEPT_SECONDS else view
