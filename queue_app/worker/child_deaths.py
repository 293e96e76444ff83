"""Ends of a worker's child that it could not tell of: what their jobs are told, and when the worker gives up.

A child that dies at work puts its batch under suspicion, and comes to an end so. One that dies while it loads
its model leaves no trace: it would be started, and killed, for ever. So would one that the kernel kills at
work for want of memory, which is no fault of its batch.
"""

import logging
import signal
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import redis

from queue_app.coordination import keys
from queue_app.coordination.events import EventKind, publish
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.trouble import (
    KILLED_TIMES_MOST,
    TroubleRegister,
    give_up_hopeless,
    pauses_of,
)
from queue_app.coordination.workers import WorkerEntry
from queue_app.host.processes import how_it_ended, killed_by
from queue_app.settings import RuntimeConfig
from queue_app.worker.child_state import ChildState, Stage
from queue_app.worker.metrics.counters import Count, counters

log = logging.getLogger(__name__)

DEATHS_MOST = 5
"""So many in a row, with no batch ended between them, and the worker gives up."""
DOING = {
    Stage.STARTING: "at its start",
    Stage.GETTING_READY: "before it had a shard, as while it loads the model,",
    Stage.AT_WORK: "while it computed",
}


class DeathCount:
    """Deaths by a signal, in a row, before the child got anything done: what a memory limit does to it.

    `num_batches` says how many have ended, `num_oom_kills` how many processes the kernel has killed for want
    of memory.
    """

    def __init__(
        self, child: ChildState, num_batches: Callable[[], float], num_oom_kills: Callable[[], int]
    ) -> None:
        self._child = child
        self._num_batches = num_batches
        self._num_oom_kills = num_oom_kills
        self._oom_kills_seen = num_oom_kills()
        self._batches_seen = 0.0
        self._in_a_row = 0

    def note(self, pid: int, exit_code: int | None) -> str:
        """A child has ended. Answers why the worker should give up; empty while it should not."""
        if self._num_batches() != self._batches_seen:
            self._batches_seen, self._in_a_row = self._num_batches(), 0
        for_memory = self._num_oom_kills() > self._oom_kills_seen and exit_code == -signal.SIGKILL
        self._oom_kills_seen = self._num_oom_kills()
        if exit_code is None or exit_code >= 0 or (self._child.is_computing(pid) and not for_memory):
            return ""
        self._in_a_row += 1
        if self._in_a_row < DEATHS_MOST:
            return ""
        return f"{killed_by(-exit_code)}, {self._in_a_row} times before it got anything done"


@dataclass(frozen=True, slots=True)
class _Death:
    stage: Stage
    job_id: str
    """Empty for one that had no job yet."""
    text: str


class DeathReports:
    """Ends that are heard of on the pool's own thread, where nothing may wait for the server, and told on
    another."""

    def __init__(self, child: ChildState) -> None:
        self._child = child
        self._untold: deque[_Death] = deque()

    def hear(self, pid: int, exit_code: int | None) -> None:
        """A child has ended, and none has taken its place yet."""
        last = self._child.last_stage(pid)
        if last.stage in DOING:
            text = f"{DOING[last.stage]} its process {how_it_ended(exit_code)}"
            self._untold.append(_Death(last.stage, last.job_id, text))

    def send(self, client: redis.Redis, worker: WorkerEntry, config: RuntimeConfig) -> None:
        """Tell the jobs of each; what cannot be told stays. Raises redis errors as they come."""
        while self._untold:
            death = self._untold[0]
            log.error("%s job=%s", death.text, death.job_id or "none")
            _report(client, worker, config, death)
            self._untold.popleft()
            if death.stage is not Stage.AT_WORK:
                counters.add(Count.TROUBLES)


def _report(client: redis.Redis, worker: WorkerEntry, config: RuntimeConfig, death: _Death) -> None:
    """One that died before it had a shard is its worker's trouble; nobody else could say so."""
    if death.stage is Stage.AT_WORK:  # its lease and its batch are seen to by others
        publish(client, death.job_id, EventKind.WORKER, f"{worker.name}: {death.text}")
        return
    waiting = cast("list[str]", client.zrange(keys.ready(worker.kind), 0, -1))
    for job_id in [death.job_id] if death.job_id else waiting:
        register = TroubleRegister(client, job_id, pauses_of(config))
        register.note(worker, death.text, times_most=KILLED_TIMES_MOST)
        give_up_hopeless(register, CheckpointManifest(client, job_id), config.lease_seconds)
