"""What makes a Celery worker a Holdfast worker: one device, one name, one lock.

Everything here runs in the worker's parent, which never touches CUDA: even counting devices there would
break the children that are forked from it.
"""

import gc
import json
import logging
import mmap
import os
import socket
import tempfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from celery.signals import (
    celeryd_init,
    worker_before_create_process,
    worker_process_init,
    worker_shutting_down,
)

from queue_app.coordination import keys
from queue_app.coordination.redis_client import TRANSIENT, connect
from queue_app.errors import JobBusy
from queue_app.host.devices import QUEUE_NAME, visible_device
from queue_app.host.die_with_parent import die_with_parent
from queue_app.host.file_lock import FileLock
from queue_app.host.limits import prefer_as_victim
from queue_app.settings import RuntimeConfig, runtime_config
from queue_app.worker.metrics.counters import Count, tally
from queue_app.worker.metrics.ports import port_of, refusal
from queue_app.worker.stage import StageBoard
from queue_app.worker.stall_watch import Pulse
from queue_app.worker.transport import tolerate_garbage

if TYPE_CHECKING:
    from queue_app.worker.metrics.server import Exporter

log = logging.getLogger(__name__)

VICTIM_SCORE = 300
"""A worker is started again; who started it, and the server, are not. Its child goes first."""

pulse = Pulse()
"""Shared with the children that are forked from here."""
stage = StageBoard()
"""Likewise."""
_draining = mmap.mmap(-1, 1)
"""One byte shared with the children that are forked from here: set when the worker is told to stop."""


@dataclass
class ThisWorker:
    """Set once in the parent, inherited by its children."""

    name: str = "no-worker"
    queue: str = ""
    device: str = ""
    lock: FileLock | None = None
    pid: int = 0
    """The parent's."""
    exporter: "Exporter | None" = None
    """The parent's, when a port for metrics is set."""


this_worker = ThisWorker()


def is_draining() -> bool:
    """True in a child once its worker was told to stop."""
    return _draining[0] != 0


def worker_name() -> str:
    """The name of the worker this process belongs to, such as `gpu0@host`."""
    return this_worker.name


@celeryd_init.connect
def become_device_worker(sender: str, instance: Any, conf: Any, options: dict[str, Any], **_: object) -> None:
    """Pin this worker to the device that its queue names.

    Signal handlers swallow Exception, so what must not start is refused with SystemExit.
    """
    queue = _only_queue(options.get("queues"))
    prefer_as_victim(VICTIM_SCORE)
    config = runtime_config()
    if config.parent_pid is not None:
        die_with_parent(config.parent_pid)
    _take_device(queue, config)
    if sender.startswith("celery@"):
        # Workers that share the default name would count as one in Flower and in `inspect`.
        instance.hostname = f"{queue}@{socket.gethostname()}"
    device = visible_device(queue, config)
    os.environ["CUDA_VISIBLE_DEVICES"] = device  # inherited by the children, where CUDA reads it
    this_worker.pid = os.getpid()
    this_worker.name, this_worker.queue = instance.hostname, queue
    this_worker.device = f"cuda:{device}" if device else "cpu"
    book = keys.unacked(instance.hostname)
    conf.broker_transport_options = {**conf.broker_transport_options, **book}
    tolerate_garbage()
    this_worker.exporter = _serve_metrics(config)
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
        raise SystemExit(
            f"{queue} has a worker already ({error}), and a device has one: "
            "stop that one, or give it the job with holdfast enqueue"
        ) from None
    this_worker.lock = lock


def _serve_metrics(config: RuntimeConfig) -> "Exporter | None":
    port = port_of(this_worker.queue, config)
    if port is None:
        return None
    from queue_app.worker.metrics.backlog import BacklogReader
    from queue_app.worker.metrics.collector import WorkerNames
    from queue_app.worker.metrics.server import Exporter

    exporter = Exporter(BacklogReader(connect(config.broker_url)))
    names = WorkerNames(this_worker.name, this_worker.queue, this_worker.device)
    device = visible_device(this_worker.queue, config)
    try:
        exporter.serve(names, device, tally, config.metrics_address, port)
    except (OSError, OverflowError) as error:
        raise SystemExit(refusal(this_worker.queue, config.metrics_address, port, error)) from None
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


@worker_before_create_process.connect
def share_memory_with_child(**_: object) -> None:
    """A collection would write to every object, and so copy for the child what it shares with its parent."""
    gc.collect()  # what is frozen is never looked at again
    gc.freeze()


@worker_process_init.connect
def tie_child_to_parent(**_: object) -> None:
    """A child must not go on when its parent was killed: it would keep the device, and nobody would see to
    its lease. The parent may be gone already, and `getppid` tell of another."""
    die_with_parent(this_worker.pid)
    prefer_as_victim(2 * VICTIM_SCORE)
    tally.add(Count.CHILDREN_STARTED)


@worker_shutting_down.connect
def tell_child_to_drain(**_: object) -> None:
    """SIGTERM: the child ends its batch, commits and gives its shard back."""
    _draining[0] = 1
