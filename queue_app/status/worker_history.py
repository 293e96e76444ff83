"""A job's workers as successive looks show them: steady between two shards, and how often each restarted."""

import time
from collections import Counter
from dataclasses import dataclass, replace

from queue_app.coordination.states import JobState
from queue_app.status.snapshot import JobSnapshot, WorkerView

BETWEEN_SHARDS_SECONDS = 2.0
"""For a moment a worker has no shard then, and no figures; so long it is shown as it was before."""


@dataclass(frozen=True, slots=True)
class SeenWorker:
    """One worker; `restarts` is how often its process was seen to be replaced."""

    view: WorkerView
    restarts: int


class WorkerHistory:
    """What was seen of one job's workers."""

    def __init__(self) -> None:
        self._pids: dict[str, tuple[int, int]] = {}
        self._restarts: Counter[str] = Counter()
        self._at_work: dict[str, tuple[float, WorkerView]] = {}

    def look(self, now: JobSnapshot) -> tuple[SeenWorker, ...]:
        """Take in one look at them; answers every worker there is, with what is known of it."""
        for view in now.workers:
            self._count_restarts(view)
        is_running = now.state is JobState.RUNNING
        views = [self._steadied(view) if is_running else view for view in now.workers]
        return tuple(SeenWorker(view, self._restarts[view.name]) for view in views)

    def _count_restarts(self, view: WorkerView) -> None:
        pid, child_pid = self._pids.get(view.name, (view.pid, 0))
        is_same = pid == view.pid
        if not is_same or (child_pid and view.child_pid not in (0, child_pid)):
            self._restarts[view.name] += 1
        # A child that is being replaced has the pid 0 for a moment; a parent took its own along.
        self._pids[view.name] = (view.pid, view.child_pid or (child_pid if is_same else 0))

    def _steadied(self, view: WorkerView) -> WorkerView:
        """As it was just now, where it has no shard or no figures yet and its process is the same."""
        now = time.monotonic()
        seen, before = self._at_work.get(view.name, (0.0, view))
        if before.child_pid != view.child_pid or now - seen > BETWEEN_SHARDS_SECONDS:
            before = view
        if view.shard is None:
            return before
        steadied = replace(view, figures=view.figures or before.figures)
        self._at_work[view.name] = (now, steadied)
        return steadied
