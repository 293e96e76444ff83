"""What a worker's parent does beside its consumer, on a thread of its own.

It registers the worker, ends a child that hangs, and reconciles: every worker looks after all jobs.
"""

import contextlib
import logging
import os
import signal
import threading
import time
from dataclasses import replace
from functools import partial
from typing import Any

import redis
from celery import bootsteps

from queue_app.celery_app import app
from queue_app.coordination.dealing import Tick, leave
from queue_app.coordination.redis_client import TRANSIENT, connect
from queue_app.coordination.trouble import pauses_of, seconds_to_rest
from queue_app.coordination.workers import WorkerEntry
from queue_app.host.lasting_threads import GAVE_UP_STATUS, UNEXPECTED_STATUS, lasting_thread
from queue_app.host.limits import num_oom_kills
from queue_app.settings import RuntimeConfig, runtime_config
from queue_app.worker.child_deaths import DeathCount, DeathReports
from queue_app.worker.device_worker import child_state, this_worker
from queue_app.worker.forgotten_jobs import ForgottenJobs
from queue_app.worker.hung_child import end_hung as _end_hung
from queue_app.worker.kombu_repairs import Standstill, is_at_work
from queue_app.worker.lasting_steps import lasting_steps
from queue_app.worker.metrics.counters import DROPPED, Count, counters
from queue_app.worker.own_end import OwnEnd
from queue_app.worker.reconciler import Reconciler
from queue_app.worker.rest import Rest, TroubleWatch

log = logging.getLogger(__name__)

LOOK_AFTER_CHILD_SECONDS = 0.5

reconciling = threading.Lock()
"""Held while the reconciler works. A fork waits for it: a child that inherits a lock which another thread
held, such as Celery's on its event dispatcher, waits for it for ever."""
os.register_at_fork(
    before=reconciling.acquire, after_in_parent=reconciling.release, after_in_child=reconciling.release
)


class ReconcilerStep(bootsteps.StartStopStep):
    """Registers the worker and reconciles, on a thread of the parent."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._death_reports = DeathReports(child_state)
        self._death_count = DeathCount(child_state, lambda: counters.total(Count.BATCHES), num_oom_kills)

    def start(self, worker: Any) -> None:
        self._thread = lasting_thread("reconciler", partial(self._run, worker))
        self._thread.start()

    def stop(self, worker: Any) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join(timeout=10)
            self._thread = None

    def terminate(self, worker: Any) -> None:
        self.stop(worker)

    def register_with_event_loop(self, worker: Any, hub: Any) -> None:
        """Look after the child more often than the pool does by itself, which is every 5 s.

        The pool hears of an end by a pipe that closes with the child's files. The kernel closes them before
        there is anything to wait for, so that the pool often looks too early, and then not again for long.
        """
        hub.call_repeatedly(LOOK_AFTER_CHILD_SECONDS, worker.pool.maintain_pool)
        hub.call_soon(self._watch_deaths, worker.pool._pool)  # the pool sets its own handlers after us

    def _watch_deaths(self, pool: Any) -> None:
        """Hear of each child's end after the pool did; give up when they are killed again and again."""
        clean_up = pool.on_process_down

        def on_process_down(child: Any) -> None:
            clean_up(child)
            if child_state.is_draining():
                return
            self._death_reports.hear(child.pid, child.exitcode)
            if why := self._death_count.note(child.pid, child.exitcode):
                log.critical("its process was %s", why)
                os._exit(GAVE_UP_STATUS)  # the next child, forked already, dies with us

        pool.on_process_down = on_process_down

    def _run(self, worker: Any) -> None:
        config = runtime_config()
        client = connect(config.broker_url)
        look = _Look(worker, client, config)
        tell_deaths = partial(self._death_reports.send, client, this_worker.entry, config)
        steps = lasting_steps(
            (look.at_own, tell_deaths, look.at_others), is_supervised=config.parent_pid is not None
        )
        while not self._ended.is_set():
            with reconciling:
                for step in steps:
                    step.take()
            self._ended.wait(config.reconcile_seconds)
        with contextlib.suppress(*TRANSIENT):  # a server that is away forgets us by itself
            leave(client, worker.hostname)


class _Look:
    """What the parent looks after: its child each time, its leases and next shard every few seconds."""

    def __init__(self, worker: Any, client: redis.Redis, config: RuntimeConfig) -> None:
        self._worker, self._client, self._config = worker, client, config
        self._reconciler = Reconciler(
            client,
            app,
            lease_seconds=config.lease_seconds,
            resend_seconds=config.resend_seconds,
            forgotten=ForgottenJobs.of_server(client, config),
        )
        self._standstill = Standstill()
        self._own_end = OwnEnd(config.exit_when_idle)
        self._due = time.monotonic()
        self._was_idle = False
        self._troubles = TroubleWatch(lambda: counters.total(Count.TROUBLES))
        self._rest = Rest(this_worker.entry.queue)

    def at_own(self) -> None:
        """The child is ended where it hangs; in trouble, the worker rests."""
        this_worker.entry = replace(this_worker.entry, child_pid=_child_pid(self._worker))
        _end_hung(this_worker.entry.child_pid, self._config)
        if not child_state.is_draining():
            ask = partial(seconds_to_rest, self._client, this_worker.entry, pauses_of(self._config))
            self._rest.step(self._worker.consumer, self._troubles.until(ask))
        if this_worker.exporter is not None:
            this_worker.exporter.note(has_child=self._is_up(), is_resting=self._rest.is_resting)

    def at_others(self) -> None:
        """Beat, observe and ask for work: every few seconds, and at once when the worker has become free."""
        is_idle = self._is_up() and not is_at_work()
        became_idle, self._was_idle = is_idle and not self._was_idle, is_idle
        if time.monotonic() < self._due and not became_idle:
            return
        self._due = time.monotonic() + self._config.beat_seconds
        said = self._reconciler.step(this_worker.entry, is_idle=is_idle)
        self._own_end.look(self._client, this_worker.entry, said)
        if said is not None:
            self._leave_if_stuck(said)

    def _is_up(self) -> bool:
        return bool(this_worker.entry.child_pid) and not child_state.is_draining()

    def _leave_if_stuck(self, said: Tick) -> None:
        num_dropped = sum(map(counters.total, DROPPED.values()))
        waited = self._standstill.seconds(said.has_messages and not self._rest.is_resting, num_dropped)
        if waited > _patience(self._config) and not child_state.is_draining():
            _leave(this_worker.entry)


def _patience(config: RuntimeConfig) -> float:
    """How long a worker may take no message though some wait."""
    return 3 * config.retry_seconds + 2 * config.resend_seconds


def _leave(worker: WorkerEntry) -> None:
    """A worker that takes no messages any more is of no use: it is for its supervisor to start it again."""
    log.critical("messages wait in %s, and this worker takes none: it ends", worker.queue)
    if worker.child_pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker.child_pid, signal.SIGKILL)
    os._exit(UNEXPECTED_STATUS)


def _child_pid(worker: Any) -> int:
    """0 while there is none."""
    children = getattr(getattr(worker.pool, "_pool", None), "_pool", None) or []
    return children[0].pid if children else 0


app.steps["worker"].add(ReconcilerStep)
