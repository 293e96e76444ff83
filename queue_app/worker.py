"""What makes a Celery worker a Holdfast worker: one device, one name, one lock, a reconciler beside it.

Everything here runs in the worker's parent, which never touches CUDA: even counting devices there would
break the children that are forked from it.
"""

import contextlib
import json
import logging
import mmap
import os
import re
import signal
import socket
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import redis
from celery import bootsteps
from celery.signals import celeryd_init, worker_process_init, worker_shutting_down

from queue_app import keys
from queue_app.broker import TRANSIENT, connect
from queue_app.celery_app import EXPORT_JOB, app
from queue_app.deliveries import LostDeliveries, Standstill
from queue_app.devices import QUEUE_NAME
from queue_app.errors import JobBusy
from queue_app.job import Job, JobDir
from queue_app.launch import die_with_parent
from queue_app.lock import FileLock
from queue_app.manifest import CheckpointManifest
from queue_app.owner import Owner
from queue_app.ports import port_of, refusal
from queue_app.producer import Prepared, announce, send_shards
from queue_app.pulse import Pulse
from queue_app.recovery import Reconciler
from queue_app.roots import JobRoots
from queue_app.settings import RuntimeConfig, runtime_config
from queue_app.states import JobState
from queue_app.tally import Count, tally
from queue_app.transport import tolerate_garbage
from queue_app.workers import WorkerEntry, register, unregister

if TYPE_CHECKING:
    from queue_app.exporter import Exporter

log = logging.getLogger(__name__)

LOOK_AFTER_CHILD_SECONDS = 0.5

pulse = Pulse()
"""Shared with the children that are forked from here."""
reconciling = threading.Lock()
"""Held while the reconciler works. A fork waits for it: a child that inherits a lock which another thread
held, such as Celery's on its event dispatcher, waits for it for ever."""
os.register_at_fork(
    before=reconciling.acquire, after_in_parent=reconciling.release, after_in_child=reconciling.release
)
_draining = mmap.mmap(-1, 1)
"""One byte shared with the children that are forked from here: set when the worker is told to stop."""


@dataclass
class _ThisWorker:
    """Set once in the parent, inherited by its children."""

    name: str = "no-worker"
    queue: str = ""
    device: str = ""
    lock: FileLock | None = None
    pid: int = 0
    """The parent's."""
    exporter: "Exporter | None" = None
    """The parent's, when a port for metrics is set."""


_this = _ThisWorker()


def is_draining() -> bool:
    """True in a child once its worker was told to stop."""
    return _draining[0] != 0


def worker_name() -> str:
    """The name of the worker this process belongs to, such as `gpu0@host`."""
    return _this.name


@celeryd_init.connect
def become_device_worker(sender: str, instance: Any, conf: Any, options: dict[str, Any], **_: object) -> None:
    """Pin this worker to the device that its queue names.

    Signal handlers swallow Exception, so what must not start is refused with SystemExit.
    """
    queue = _only_queue(options.get("queues"))
    config = runtime_config()
    if config.parent_pid is not None:
        die_with_parent(config.parent_pid)
    _take_device(queue, config)
    if sender.startswith("celery@"):
        # Workers that share the default name would count as one in Flower and in `inspect`.
        instance.hostname = f"{queue}@{socket.gethostname()}"
    device = visible_device(queue, config)
    os.environ["CUDA_VISIBLE_DEVICES"] = device  # inherited by the children, where CUDA reads it
    _this.pid = os.getpid()
    _this.name, _this.queue, _this.device = instance.hostname, queue, f"cuda:{device}" if device else "cpu"
    book = keys.unacked(instance.hostname)
    conf.broker_transport_options = {**conf.broker_transport_options, **book}
    tolerate_garbage()
    _this.exporter = _serve_metrics(config)
    _restore_orphans(book, queue, config)


def _only_queue(queues: str | list[str] | None) -> str:
    names = queues.split(",") if isinstance(queues, str) else list(queues or ())
    if len(names) != 1:
        raise SystemExit("a Holdfast worker serves one device: give one queue, as in -Q gpu0")
    if not QUEUE_NAME.fullmatch(names[0]):
        raise SystemExit(f"queue {names[0]!r} names no device: use gpuN or cpuN, as in -Q gpu0")
    return names[0]


def _take_device(queue: str, config: RuntimeConfig) -> None:
    """One worker per GPU on a host; one per cpuN on a host and server (processors can be shared)."""
    scope = "" if queue.startswith("gpu") else sha256(config.broker_url.encode()).hexdigest()[:12]
    directory = Path(tempfile.gettempdir()) / f"holdfast-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    lock = FileLock(directory / f"{queue}{scope and '-' + scope}.lock")
    try:
        lock.acquire()
    except JobBusy as error:
        raise SystemExit(f"{queue} has a worker already ({error}); one worker per device") from None
    _this.lock = lock


def visible_device(queue: str, config: RuntimeConfig) -> str:
    """What CUDA_VISIBLE_DEVICES must be for this queue: the N-th of the devices granted to this host."""
    kind, number = cast("re.Match[str]", QUEUE_NAME.fullmatch(queue)).groups()
    if kind == "cpu":
        return ""
    granted = config.visible_devices
    if not granted:
        return number
    devices = granted.split(",")
    if int(number) >= len(devices):
        raise SystemExit(f"{queue}: CUDA_VISIBLE_DEVICES grants only {len(devices)} device(s) ({granted})")
    return devices[int(number)]


def _serve_metrics(config: RuntimeConfig) -> "Exporter | None":
    port = port_of(_this.queue, config)
    if port is None:
        return None
    from queue_app.backlog import BacklogReader
    from queue_app.exporter import Exporter
    from queue_app.metrics import WorkerNames

    exporter = Exporter(BacklogReader(connect(config.broker_url)))
    names = WorkerNames(_this.name, _this.queue, _this.device)
    device = visible_device(_this.queue, config)
    try:
        exporter.serve(names, device, tally, config.metrics_address, port)
    except (OSError, OverflowError) as error:
        raise SystemExit(refusal(_this.queue, config.metrics_address, port, error)) from None
    return exporter


def _restore_orphans(book: dict[str, str], queue: str, config: RuntimeConfig) -> None:
    """Put back what an earlier worker of this name held when it was killed.

    Kombu would do so too, but only after the visibility timeout.
    """
    try:
        with connect(config.broker_url) as client:
            for payload in cast("dict[str, str]", client.hgetall(book["unacked_key"])).values():
                client.rpush(queue, json.dumps(json.loads(payload)[0]))
            client.delete(*book.values())
    except TRANSIENT as error:
        log.warning("left-over messages not looked for: %s", error)


@worker_process_init.connect
def tie_child_to_parent(**_: object) -> None:
    """A child must not go on when its parent was killed: it would keep the device, and nobody would see to
    its lease. The parent may be gone already, and `getppid` tell of another."""
    die_with_parent(_this.pid)
    tally.add(Count.CHILDREN_STARTED)


@worker_shutting_down.connect
def tell_child_to_drain(**_: object) -> None:
    """SIGTERM: the child ends its batch, commits and gives its shard back."""
    _draining[0] = 1


class ReconcilerStep(bootsteps.StartStopStep):
    """Registers the worker and reconciles, on a thread of the parent."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

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
        deliveries, standstill = LostDeliveries(3 * config.retry_seconds), Standstill()
        while not self._ended.is_set():
            try:
                with reconciling:
                    entry = _entry(worker, owner)
                    _end_hung(entry.child_pid, config)
                    deliveries.drop(worker.consumer)
                    register(client, entry)
                    if _this.exporter is not None:
                        _this.exporter.note(has_child=bool(entry.child_pid) and not is_draining())
                    if standstill.seconds(client.llen(_this.queue)) > _patience(config) and not is_draining():
                        _leave(entry.child_pid)
                    reconciler.step()
            except TRANSIENT as error:
                log.warning("not registered: %s", error)
            self._ended.wait(config.reconcile_seconds)
        with contextlib.suppress(*TRANSIENT):  # a server that is away forgets us by itself
            unregister(client, worker.hostname)


def rebuild(client: redis.Redis, job: Job, job_dir: JobDir, queues: Sequence[str]) -> None:
    """Fill the manifest of a forgotten job from its directory; export it if only that was left."""
    announce(client, app, Prepared(job, job_dir, created=False), queues, resend_all=True)
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
    log.critical("messages wait in %s, and this worker takes none: it ends", _this.queue)
    if child_pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child_pid, signal.SIGKILL)
    os._exit(1)


def _entry(worker: Any, owner: Owner) -> WorkerEntry:
    children = getattr(getattr(worker.pool, "_pool", None), "_pool", None) or []
    return WorkerEntry(
        name=worker.hostname,
        queue=_this.queue,
        device=_this.device,
        host=socket.gethostname(),
        pid=os.getpid(),
        child_pid=children[0].pid if children else 0,
        owner=owner.encode(),
    )


app.steps["worker"].add(ReconcilerStep)
