"""Children of a worker that ended without a word: what their jobs are told.

One that died before it had a shard, as while it loaded the model, is its worker's trouble; nobody else could
say so. The pool hears of an end on its own thread, where nothing may wait for the server.
"""

import logging
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import redis

from queue_app.coordination import keys
from queue_app.coordination.events import EventKind, publish
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.states import JobState
from queue_app.coordination.trouble import KILLED_TIMES_MOST, TroubleRegister, give_up_hopeless, queues_of
from queue_app.worker.deaths import killed_by
from queue_app.worker.metrics.counters import Count, tally
from queue_app.worker.stage import Stage, StageBoard

log = logging.getLogger(__name__)

DOING = {
    Stage.STARTING: "at its start",
    Stage.GETTING_READY: "before it had a shard, as while it loads the model,",
    Stage.AT_WORK: "while it computed",
}


@dataclass(frozen=True, slots=True)
class UntoldEnd:
    """An end that its process did not tell of. `job_id` is empty for one that had no job yet."""

    stage: Stage
    job_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Teller:
    """The worker whose children they are, and how it waits."""

    client: redis.Redis
    worker: str
    queue: str
    lease_seconds: float
    retry_seconds: float

    def tell(self, death: UntoldEnd) -> None:
        """Raises redis errors as they come."""
        if death.stage is Stage.AT_WORK:  # its lease and its batch are seen to by others
            publish(self.client, death.job_id, EventKind.WORKER, f"{self.worker}: {death.text}")
            return
        for job_id in [death.job_id] if death.job_id else list(self._jobs()):
            register = TroubleRegister(self.client, job_id, retry_seconds=self.retry_seconds)
            register.note(self.worker, death.text, times_most=KILLED_TIMES_MOST)
            give_up_hopeless(register, CheckpointManifest(self.client, job_id), self.lease_seconds)

    def _jobs(self) -> Iterable[str]:
        """Those whose shards wait for this worker."""
        for job_id in self.client.hkeys(keys.JOBS):
            manifest = CheckpointManifest(self.client, str(job_id))
            status = manifest.job_status()
            if status is None or status.state is not JobState.RUNNING:
                continue
            if self.queue in queues_of(manifest, status.num_shards):
                yield str(job_id)


class UntoldEnds:
    """Heard of on one thread, told on another."""

    def __init__(self, board: StageBoard) -> None:
        self._board = board
        self._heard: deque[UntoldEnd] = deque()

    def hear(self, pid: int, exit_code: int | None) -> None:
        """A child has ended, and none has taken its place yet."""
        last = self._board.of(pid)
        if last.stage in DOING:
            text = f"{DOING[last.stage]} its process {how_it_ended(exit_code)}"
            self._heard.append(UntoldEnd(last.stage, last.job_id, text))

    def tell(self, teller: Teller) -> None:
        """All that was heard of; what cannot be told stays. Raises redis errors as they come."""
        while self._heard:
            death = self._heard[0]
            log.error("%s job=%s", death.text, death.job_id or "none")
            teller.tell(death)
            self._heard.popleft()
            if death.stage is not Stage.AT_WORK:
                tally.add(Count.TROUBLES)


def how_it_ended(exit_code: int | None) -> str:
    """`was killed by signal 9 (SIGKILL), probably out of memory`; a negative code is a signal's."""
    if exit_code is None or exit_code >= 0:
        return f"ended with exit status {exit_code}"
    return f"was {killed_by(-exit_code)}"
