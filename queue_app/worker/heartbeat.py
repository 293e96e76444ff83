"""The heartbeat of a leased shard: a thread that shows the holder alive and carries its progress.

It never stops the work because the server is away: only an answer that the lease is lost does.
"""

import logging
import threading
from collections.abc import Callable
from types import TracebackType

from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.redis_client import TRANSIENT
from queue_app.coordination.states import JobState, Lease
from queue_app.coordination.worker_figures import Figures
from queue_app.job.spec import Progress

log = logging.getLogger(__name__)


class Heartbeat:
    """Beats every `beat_seconds`, and at once when progress is reported. `figures` says how fast it goes."""

    def __init__(
        self,
        manifest: CheckpointManifest,
        lease: Lease,
        beat_seconds: float,
        figures: Callable[[], Figures] | None = None,
    ) -> None:
        self.manifest = manifest
        self.lease = lease
        self.beat_seconds = beat_seconds
        self.figures = figures
        # Not zero: what the store holds is only known once it was opened, and is no progress then.
        self.progress: Progress | None = None
        self.job_state = JobState.RUNNING
        self.lost = threading.Event()
        self._wake = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def report(self, progress: Progress) -> None:
        """Note what is committed now; sent with the next beat, which is made at once."""
        self.progress = progress
        self._wake.set()

    def should_stop(self) -> bool:
        """True when the shard is no longer ours to compute, or the job was paused or cancelled."""
        return self.lost.is_set() or self.job_state in (JobState.PAUSED, JobState.CANCELLED)

    def _run(self) -> None:
        while not self._ended.is_set():
            self._beat()
            self._wake.wait(self.beat_seconds)
            self._wake.clear()

    def _beat(self) -> None:
        try:
            figures = self.figures() if self.figures else None
            state = self.manifest.beat(self.lease, self.progress, figures)
        except TRANSIENT as error:
            log.warning(
                "no heartbeat job=%s shard=%d: %s", self.manifest.job_id, self.lease.shard.index, error
            )
            return
        if state is None:
            log.warning("lease lost job=%s shard=%d", self.manifest.job_id, self.lease.shard.index)
            self.lost.set()
            self._ended.set()
        else:
            self.job_state = state

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._wake.set()
        self._thread.join()
