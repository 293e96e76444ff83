"""What makes a Celery worker a Holdfast worker: one device, one name, one lock.

Everything here runs in the worker's parent, which never touches CUDA: even counting devices there would
break the children that are forked from it.
"""

import gc
import logging
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from celery.signals import (
    celeryd_after_setup,
    celeryd_init,
    worker_before_create_process,
    worker_process_init,
    worker_shutting_down,
)

from queue_app.coordination.redis_client import connect
from queue_app.coordination.workers import Owner, WorkerEntry
from queue_app.errors import UsageError
from queue_app.host.child_processes.die_with_parent import die_with_parent
from queue_app.host.devices import BUS_ORDER, num_cores
from queue_app.host.limits import prefer_as_victim
from queue_app.host.queues import Queue
from queue_app.host.torch_missing import require_torch
from queue_app.settings import RuntimeConfig, runtime_config
from queue_app.worker.child_state import ChildState
from queue_app.worker.device_claim import DeviceClaim
from queue_app.worker.kombu_repairs import gate, guard_queues, restore_left_over
from queue_app.worker.metrics.counters import Count, counters
from queue_app.worker.metrics.gpu_gauge import GpuGauge
from queue_app.worker.metrics.ports import port_of, refusal

if TYPE_CHECKING:
    from queue_app.worker.metrics.server import Exporter

log = logging.getLogger(__name__)

VICTIM_SCORE = 300
"""A worker is started again; who started it, and the server, are not. Its child goes first."""

child_state = ChildState()
"""Shared with the children that are forked from here."""
gpu_gauge = GpuGauge()
"""Likewise."""


NO_WORKER = WorkerEntry("no-worker", queue="", device="", host="", pid=0, child_pid=0, owner="")


@dataclass
class ThisWorker:
    """Set once in the parent, inherited by its children."""

    entry: WorkerEntry = NO_WORKER
    claim: DeviceClaim | None = None
    exporter: "Exporter | None" = None
    """The parent's, when a port for metrics is set."""


this_worker = ThisWorker()


@celeryd_init.connect
def become_device_worker(sender: str, instance: Any, conf: Any, options: dict[str, Any], **_: object) -> None:
    """Pin this worker to the device that its queue names.

    Signal handlers swallow Exception, so what must not start is refused with SystemExit.
    """
    queue = _only_queue(options.get("queues"))
    _require_torch()
    _require_keys()
    prefer_as_victim(VICTIM_SCORE)
    config = runtime_config()
    if config.parent_pid is not None:
        die_with_parent(config.parent_pid)
    claim = this_worker.claim = DeviceClaim(queue, config)
    claim.take()
    if sender.startswith("celery@"):
        # Workers that share the default name would count as one in Flower.
        instance.hostname = claim.name()
    device = claim.granted
    # Inherited by the children, where CUDA reads them.
    os.environ["CUDA_VISIBLE_DEVICES"], os.environ["CUDA_DEVICE_ORDER"] = device, BUS_ORDER
    this_worker.entry = WorkerEntry(
        name=instance.hostname,
        queue=str(queue),
        device=f"cuda:{device}" if device else "cpu",
        host=socket.gethostname(),
        pid=os.getpid(),
        child_pid=0,
        owner=Owner.current(instance.hostname).encode(),
        cores=num_cores(),
    )
    guard_queues(conf, instance.hostname)
    this_worker.exporter = _serve_metrics(this_worker.entry, config)
    restore_left_over(this_worker.entry, config)


@celeryd_after_setup.connect
def consume_own_queue(instance: Any, **_: object) -> None:
    """Beside the public queue of the device its own, which its shards are dealt to."""
    instance.app.amqp.queues.select_add(this_worker.entry.name)


def _only_queue(queues: str | list[str] | None) -> Queue:
    names = queues.split(",") if isinstance(queues, str) else list(queues or ())
    if len(names) != 1:
        raise SystemExit("a Holdfast worker serves one device: give one queue, as in -Q gpu0")
    try:
        return Queue.parse(names[0])
    except UsageError:
        raise SystemExit(f"queue {names[0]!r} names no device: use gpuN or cpuN, as in -Q gpu0") from None


def _require_torch() -> None:
    """A worker that can load no model would use up the attempts of every shard that it is dealt."""
    try:
        require_torch()
    except UsageError as error:
        raise SystemExit(str(error)) from None


def _require_keys() -> None:
    """A worker without the fleet's key would take what nobody signed, or nothing at all."""
    try:
        gate()
    except UsageError as error:
        raise SystemExit(str(error)) from None


def _serve_metrics(worker: WorkerEntry, config: RuntimeConfig) -> "Exporter | None":
    port = port_of(worker.queue, config)
    if port is None:
        return None
    from queue_app.worker.metrics.backlog import BacklogReader
    from queue_app.worker.metrics.server import Exporter

    exporter = Exporter(worker, counters, gpu_gauge, BacklogReader(connect(config.broker_url)))
    try:
        exporter.serve(config.metrics_address, port)
    except (OSError, OverflowError) as error:
        raise SystemExit(refusal(worker.queue, config.metrics_address, port, error)) from None
    return exporter


@worker_before_create_process.connect
def share_memory_with_child(**_: object) -> None:
    """A collection would write to every object, and so copy for the child what it shares with its parent."""
    gc.collect()  # what is frozen is never looked at again
    gc.freeze()


@worker_process_init.connect
def tie_child_to_parent(**_: object) -> None:
    """A child must not go on when its parent was killed: it would keep the device, and nobody would see to
    its lease. The parent may be gone already, and `getppid` tell of another."""
    die_with_parent(this_worker.entry.pid)
    prefer_as_victim(2 * VICTIM_SCORE)
    counters.add(Count.CHILDREN_STARTED)
    if this_worker.entry.device.startswith("cuda:"):
        gpu_gauge.start(this_worker.entry.device.removeprefix("cuda:"))


@worker_shutting_down.connect
def tell_child_to_drain(**_: object) -> None:
    """SIGTERM: the child ends its batch, commits and gives its shard back."""
    child_state.drain()
