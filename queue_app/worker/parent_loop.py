"""What a worker's parent does beside its consumer, on a thread of its own.

It registers the worker, ends a child that hangs, and reconciles: every worker looks after all jobs.
"""

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Sequence
from typing import Any

import redis
from celery import bootsteps

from queue_app.celery_app import EXPORT_JOB, app
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.owner import Owner
from queue_app.coordination.redis_client import TRANSIENT, connect
from queue_app.coordination.shard_messages import announce, send_shards
from queue_app.coordination.states import JobState
from queue_app.coordination.workers import WorkerEntry, register, unregister
from queue_app.job.directory import JobDir
from queue_app.job.spec import Job
from queue_app.settings import RuntimeConfig, runtime_config
from queue_app.worker.deaths import EXIT_STATUS, ChildDeaths, num_oom_kills
from queue_app.worker.device_worker import is_draining, pulse, stage, this_worker
from queue_app.worker.forgotten_jobs import JobRoots
from queue_app.worker.kombu_repairs import LostDeliveries, Standstill
from queue_app.worker.metrics.counters import Count, tally
from queue_app.worker.reconciler import Reconciler
from queue_app.worker.untold import Teller, UntoldEnds

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
        self._ends = UntoldEnds(stage)

    def start(self, worker: Any) -> None:
        self._thread = threading.Thread(target=self._run, args=(worker,), name="reconciler", daemon=True)
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
        hub.call_soon(self._listen, worker.pool._pool)
        hub.call_soon(_watch_deaths, worker.pool._pool)  # the pool sets its own handlers after us

    def _listen(self, pool: Any) -> None:
        """Hear of each child's end, once the pool has set its own answer to it."""
        answer = pool.on_process_down

        def heard(child: Any) -> None:
            answer(child)
            if not is_draining():
                self._ends.hear(child.pid, child.exitcode)

        pool.on_process_down = heard

    def _run(self, worker: Any) -> None:
        config = runtime_config()
        client = connect(config.broker_url)
        reconciler = Reconciler(
            client,
            worker.hostname,
            lambda manifest, job_dir, routes: send_shards(app, manifest, job_dir, routes),
            lease_seconds=config.lease_seconds,
            resend_seconds=config.resend_seconds,
            roots=JobRoots(config.roots, config.broker_url),
            rebuild=lambda job, job_dir, queues: rebuild(client, job, job_dir, queues),
            send_export=send_export,
        )
        owner = Owner.current(worker.hostname)
        teller = Teller(
            client, worker.hostname, this_worker.queue, config.lease_seconds, config.retry_seconds
        )
        deliveries, standstill = LostDeliveries(3 * config.retry_seconds), Standstill()
        while not self._ended.is_set():
            try:
                with reconciling:
                    entry = _entry(worker, owner)
                    _end_hung(entry.child_pid, config)
                    deliveries.drop(worker.consumer)
                    register(client, entry)
                    self._ends.tell(teller)
                    if this_worker.exporter is not None:
                        this_worker.exporter.note(has_child=bool(entry.child_pid) and not is_draining())
                    waited = standstill.seconds(client.llen(this_worker.queue))
                    if waited > _patience(config) and not is_draining():
                        _leave(entry.child_pid)
                    reconciler.step()
            except TRANSIENT as error:
                log.warning("not registered: %s", error)
            self._ended.wait(config.reconcile_seconds)
        with contextlib.suppress(*TRANSIENT):  # a server that is away forgets us by itself
            unregister(client, worker.hostname)


def _watch_deaths(pool: Any) -> None:
    """Have this worker give up when its children are killed before they get anything done."""
    deaths = ChildDeaths(pulse.is_at_work, lambda: tally.total(Count.BATCHES), num_oom_kills)
    clean_up = pool.on_process_down

    def on_process_down(process: Any) -> None:
        clean_up(process)
        if (why := deaths.note(process.pid, process.exitcode)) and not is_draining():
            log.critical("its process was %s", why)
            os._exit(EXIT_STATUS)  # the next child, forked already, dies with us

    pool.on_process_down = on_process_down


def rebuild(client: redis.Redis, job: Job, job_dir: JobDir, queues: Sequence[str]) -> None:
    """Fill the manifest of a forgotten job from its directory; export it if only that was left."""
    announce(client, app, job, job_dir, queues, resend_all=True)
    status = CheckpointManifest(client, job.job_id).job_status()
    if status is not None and status.state is JobState.DONE:
        send_export(job.job_id, job_dir, queues[0])


def send_export(job_id: str, job_dir: JobDir, queue: str) -> None:
    app.send_task(EXPORT_JOB, args=[job_id, str(job_dir.path)], queue=queue)


def _end_hung(child_pid: int, config: RuntimeConfig) -> None:
    """A child that hangs is killed: its lease ends with it, and its batch comes under suspicion.

    One that does not run at all has lost its lease by then, and its queue would wait for it for ever.
    Twice the lease: what only waited for a busy machine may find that out by itself.
    """
    if not child_pid:  # 0 would mean this process and all of its group
        return
    patience = 2 * config.lease_seconds
    seconds = pulse.stalled_seconds(child_pid)
    if pulse.is_stopped(child_pid, patience):
        reason = f"it has not run for {patience:.0f} s"
    elif seconds >= config.stall_seconds:
        reason = f"no batch for {seconds:.0f} s"
    else:
        return
    log.error("%s: process %d is killed", reason, child_pid)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child_pid, signal.SIGKILL)


def _patience(config: RuntimeConfig) -> float:
    """How long a worker may take no message though some wait: a lost delivery is dropped meanwhile."""
    return 3 * config.retry_seconds + 2 * config.resend_seconds


def _leave(child_pid: int) -> None:
    """A worker that takes no messages any more is of no use: it is for its supervisor to start it again."""
    log.critical("messages wait in %s, and this worker takes none: it ends", this_worker.queue)
    if child_pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child_pid, signal.SIGKILL)
    os._exit(1)


def _entry(worker: Any, owner: Owner) -> WorkerEntry:
    children = getattr(getattr(worker.pool, "_pool", None), "_pool", None) or []
    return WorkerEntry(
        name=worker.hostname,
        queue=this_worker.queue,
        device=this_worker.device,
        host=socket.gethostname(),
        pid=os.getpid(),
        child_pid=children[0].pid if children else 0,
        owner=owner.encode(),
    )


app.steps["worker"].add(ReconcilerStep)
