"""The next shard, made ready on a thread of its own while the present one is computed.

It is asked for when the present one will soon be through, then read, tokenised and planned, which takes
nobody's leave. Right before the present one's end its lease is asked for, as ever, and its store opened: the
task that its message wakes finds both, and begins with the first batch. When no such task comes, when it
turns to another shard, or the worker is to leave, the lease is given back unspent. What fails here is
forgotten: the task meets it again in its own, ordinary way, and tells it.

A text may end the process that tokenises it. While texts are read ahead a note lies in the present shard's
store; who finds it there, after such an end, reads nothing ahead beside that shard again: the next one's own
holder writes down which text it was.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from gpu_tasks.inference.model import EmbeddingModel
from gpu_tasks.shard.acquire import acquire
from gpu_tasks.shard.observers import ShardObserver
from queue_app.coordination.dealing import Dealt
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.states import Lease
from queue_app.job.directory import JobDir
from queue_app.job.shard_table import Shard
from queue_app.job.spec import Job, Progress
from queue_app.settings import runtime_config
from queue_app.worker.device_worker import child_state

if TYPE_CHECKING:
    from gpu_tasks.inference.batch_plan import BatchPlan
    from gpu_tasks.inference.runner import Timings
    from gpu_tasks.shard.reading import ReadShard

log = logging.getLogger(__name__)

ASK_SECONDS = 2.0
"""So long before its end, beside what reading takes, the next shard is asked for. A worker that is idle may
take it over after three seconds (dealing.lua)."""
READ_TIMES = 1.5
"""As often as reading took the last time."""
LEASE_SECONDS = 0.5
"""So long before the end the next one is leased: what kills the process then costs it an attempt, too."""
BATCHES_LEAST = 2
"""With so few left all of this begins: who has only a few sees the end too late by his pace."""
NOT_TAKEN_SECONDS = 10.0
"""Its message is lost, or too long in coming."""
ANSWER_SECONDS = 1.0
"""A server that does not say within this time what is next keeps nothing from being published."""
LOOK_SECONDS = 0.1
NOTE = "reading-ahead"


class Begun(Protocol):
    """An attempt, as far as it is begun here (attempt.py)."""

    @property
    def lease(self) -> Lease: ...
    def make_ready(self, read: "ReadShard | None" = None) -> None: ...
    def let_go(self, reason: str) -> None: ...


Attempt = TypeVar("Attempt", bound=Begun)


@dataclass(frozen=True, slots=True)
class Here(Generic[Attempt]):
    """What the present shard and the next one have in common. `attempt` makes one under a lease."""

    manifest: CheckpointManifest
    job: Job
    directory: JobDir
    model: EmbeddingModel
    attempt: Callable[[Lease], Attempt]


class NextShard(ShardObserver, Generic[Attempt]):
    """The one behind `present`, whose attempt it watches to see the end come.

    `ask` has it dealt. `before` publishes the one before: no process holds more than two.
    """

    def __init__(
        self,
        here: Here[Attempt],
        present: Shard,
        ask: Callable[[], Dealt | None],
        before: threading.Thread | None = None,
    ) -> None:
        self._here, self._present, self._ask, self._before = here, present, ask, before
        self._thread = threading.Thread(target=self._run, name="next-shard", daemon=True)
        self._dealt: Dealt | None = None
        self._attempt: Attempt | None = None
        self._claiming = threading.Lock()
        self._is_asked, self._is_near, self._is_over = (threading.Event() for _ in range(3))
        self._is_settled, self._is_unwanted = threading.Event(), threading.Event()
        self._num_left, self._num_computed, self._since = 0, 0, 0.0

    # ---- the present shard, on the thread that computes

    def planned(self, plan: "BatchPlan") -> None:
        self._num_left = plan.num_batches

    def computing(self, resumed: Progress, timings: "Timings") -> None:
        self._num_left -= resumed.batches_done
        self._since = time.monotonic()

    def computed(self, batch_idx: int) -> None:
        self._num_left -= 1
        self._num_computed += 1
        left_seconds = (time.monotonic() - self._since) / self._num_computed * self._num_left
        if left_seconds <= ASK_SECONDS + READ_TIMES * _read.seconds or self._num_left <= BATCHES_LEAST:
            self.begin()
        if left_seconds <= LEASE_SECONDS:
            self._is_near.set()

    # ---- the task

    def begin(self) -> None:
        """Ask for the shard, and make it ready; nothing where that was begun before."""
        if self._thread.ident is None:
            self._thread.start()

    def is_dealt(self) -> bool:
        """True when a next shard is on its way to this worker. The present one is computed."""
        self.begin()
        self._is_near.set()
        self._is_asked.wait(ANSWER_SECONDS)
        return self.is_known_dealt()

    def is_known_dealt(self) -> bool:
        """True when one was dealt that no task has begun."""
        return self._dealt is not None

    def end_present(self) -> None:
        """The present shard's task is through: from now on the next one's is waited for."""
        self._is_over.set()

    def claim(self, job_id: str, index: int) -> Attempt | None:
        """The attempt at this shard, its store open; None where it is another one, or could not be made
        ready."""
        self._is_near.set()
        if self._dealt is None or (self._dealt.job_id, self._dealt.index) != (job_id, index):
            self.drop()
            return None
        self._is_settled.wait()
        return self._taken()

    def drop(self) -> None:
        """It is not wanted: wait until it is given back."""
        self._is_unwanted.set()
        self._is_near.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _taken(self) -> Attempt | None:
        """For one of those who want it: the task, and who gives it back."""
        with self._claiming:
            attempt, self._attempt = self._attempt, None
        return attempt

    # ---- its own thread

    def _run(self) -> None:
        try:
            try:
                self._dealt = self._ask()
            finally:
                self._is_asked.set()
            if self._dealt is not None and self._dealt.job_id == self._here.job.job_id:
                self._make_ready(self._here.job.shards[self._dealt.index])
        except Exception as error:
            log.info("next shard not made ready: %s: %s", type(error).__name__, error)
        finally:
            self._is_settled.set()
        self._keep()

    def _make_ready(self, shard: Shard) -> None:
        read = self._read(shard)
        self._is_near.wait()
        if self._before is not None:
            self._before.join()
        if read is None or self._is_given_up():
            return
        here = self._here
        lease = acquire(here.manifest, here.directory, here.job, shard.index)
        if not isinstance(lease, Lease):
            return
        attempt = here.attempt(lease)
        try:
            attempt.make_ready(read)
        except Exception:
            attempt.let_go("not made ready")
            raise
        self._attempt = attempt

    def _read(self, shard: Shard) -> "ReadShard | None":
        here, scratch = self._here, runtime_config().scratch
        note = here.directory.checkpoint(self._present.index, here.job.job_id, scratch) / NOTE
        if note.exists():
            return None
        note.touch()
        began = time.monotonic()
        store_path = here.directory.checkpoint(shard.index, here.job.job_id, scratch)
        try:
            from gpu_tasks.shard.reading import read_ahead

            return read_ahead(here.job, here.directory, shard, here.model, store_path)
        finally:
            _read.seconds = time.monotonic() - began
            note.unlink(missing_ok=True)

    def _keep(self) -> None:
        """Until the task takes it, or nobody will."""
        until = None
        while self._attempt is not None and not self._is_given_up():
            if self._is_over.is_set():
                until = until or time.monotonic() + NOT_TAKEN_SECONDS
                if time.monotonic() > until:
                    break
            self._is_unwanted.wait(LOOK_SECONDS)
        if (attempt := self._taken()) is not None:
            attempt.let_go("not begun")
            log.info("given back unbegun %s", attempt.lease.label)

    def _is_given_up(self) -> bool:
        return self._is_unwanted.is_set() or child_state.is_draining()


@dataclass(slots=True)
class _Read:
    seconds: float = 0.0
    """What reading a shard took the last time in this process."""


_read = _Read()
