"""The exporter: serves a worker's metrics over HTTP from its parent.

What the server knows is read by the reconciler's thread every few seconds and served from memory: a scrape
never waits for the server, and no work waits for a scrape.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator
from threading import Thread

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from queue_app.coordination.redis_client import TRANSIENT
from queue_app.coordination.workers import WorkerEntry
from queue_app.host.lasting_threads import end_process
from queue_app.worker.metrics.backlog import Backlog, BacklogReader
from queue_app.worker.metrics.counters import Counters
from queue_app.worker.metrics.families import families
from queue_app.worker.metrics.gpu_gauge import GpuGauge
from queue_app.worker.metrics.http_server import MetricsServer

log = logging.getLogger(__name__)

READ_SECONDS = 2.0
STALE_SECONDS = 15.0
"""What was noted so long ago is not told any more: absent is better than wrong."""


class Exporter(Collector):
    """The metrics of one worker. The reconciler notes, whoever scrapes asks."""

    def __init__(
        self,
        worker: WorkerEntry,
        counters: Counters,
        gpu: GpuGauge,
        reader: BacklogReader,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._worker = worker
        self._counters = counters
        self._gpu = gpu
        self._reader = reader
        self._clock = clock
        self._backlog: Backlog | None = None
        self._has_child = self._is_resting = False
        self._noted = self._read = float("-inf")
        self._thread: Thread | None = None

    def note(self, *, has_child: bool, is_resting: bool = False) -> None:
        """The worker was registered just now. Raises what a server raises that is away."""
        self._has_child, self._is_resting, self._noted = has_child, is_resting, self._clock()
        if self._thread is not None and not self._thread.is_alive():
            end_process("the thread that serves its metrics died")
        if self._clock() - self._read < READ_SECONDS:
            return
        try:
            self._backlog = self._reader.read()
            self._read = self._clock()
        except TRANSIENT:
            raise
        except Exception as error:  # whatever somebody left on the server: the reconciler must go on
            log.warning("queues and jobs cannot be told: %s", error)

    def is_up(self) -> bool:
        return self._has_child and self._clock() - self._noted < STALE_SECONDS

    def backlog(self) -> Backlog | None:
        return self._backlog if self._clock() - self._read < STALE_SECONDS else None

    def collect(self) -> Iterator[Metric]:
        load, backlog = self._gpu.load(), self.backlog()
        is_up, is_resting = self.is_up(), self._is_resting
        return families(
            self._worker, self._counters, is_up=is_up, is_resting=is_resting, load=load, backlog=backlog
        )

    def serve(self, address: str, port: int) -> None:
        """From a thread, for as long as the process lives. Raises OSError when the port cannot be had."""
        registry = CollectorRegistry()
        registry.register(self)
        server = MetricsServer(address, port, registry)
        self._thread = server.start()
        # A child that outlives its parent by a moment would keep the port from the next worker.
        os.register_at_fork(after_in_child=server.socket.close)
