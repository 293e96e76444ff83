"""Every Prometheus metric of a worker: its name, what it means, and where its value comes from.

Labels are few for as long as a worker lives: worker, queue, station, state, and the jobs in view. A job's is
`job_id`, for Prometheus keeps `job` to itself.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from queue_app.coordination.workers import WorkerEntry
from queue_app.host.gpu_load import GpuLoad
from queue_app.worker.metrics.backlog import Backlog
from queue_app.worker.metrics.counters import Count, Counters

COUNTERS = {
    "holdfast_sequences_embedded_total": (
        Count.SEQUENCES_EMBEDDED,
        "Sequences whose vectors this worker committed to disk.",
    ),
    "holdfast_sequences_quarantined_total": (
        Count.SEQUENCES_QUARANTINED,
        "Sequences that were set aside in the shards that this worker completed.",
    ),
    "holdfast_tokens_embedded_total": (
        Count.TOKENS_EMBEDDED,
        "Tokens of the batches that this worker committed, special ones included.",
    ),
    "holdfast_batches_total": (Count.BATCHES, "Batches that this worker committed."),
    "holdfast_shards_completed_total": (Count.SHARDS_COMPLETED, "Shards that this worker published."),
    "holdfast_shard_retries_total": (
        Count.SHARD_RETRIES,
        "Attempts at a shard that failed with an error in this worker, to be made again.",
    ),
    "holdfast_worker_troubles_total": (
        Count.TROUBLES,
        "Failures of this worker before it had a shard, as to load a model, to be tried again.",
    ),
    "holdfast_lease_expired_total": (
        Count.LEASES_EXPIRED,
        "Leases that this worker took away from one that died or fell silent.",
    ),
}

STATIONS = {
    "wait": Count.WAIT,
    "launch": Count.LAUNCH,
    "fetch": Count.FETCH,
    "copy_in": Count.COPY_IN,
    "compute": Count.COMPUTE,
    "copy_out": Count.COPY_OUT,
}


@dataclass(frozen=True, slots=True)
class WorkerCollector(Collector):
    """Makes the families anew for each scrape, from memory alone.

    `backlog` and `gpu` answer None while there is nothing to be said; then their metrics are absent.
    """

    worker: WorkerEntry
    counters: Counters
    is_up: Callable[[], bool]
    backlog: Callable[[], Backlog | None]
    gpu: Callable[[], GpuLoad | None]

    def collect(self) -> Iterator[Metric]:
        yield self._up()
        yield from self._counters()
        yield self._restarts()
        yield self._stations()
        yield self._commits()
        if (load := self.gpu()) is not None:
            yield from self._gpu(load)
        if (backlog := self.backlog()) is not None:
            yield from backlog_families(backlog)

    def _up(self) -> Metric:
        family = GaugeMetricFamily(
            "holdfast_worker_up",
            "1 while the worker is registered with the server and has a process to compute in, else 0.",
            labels=["worker", "queue", "device"],
        )
        family.add_metric([self.worker.name, self.worker.queue, self.worker.device], self.is_up())
        return family

    def _counters(self) -> Iterator[Metric]:
        for name, (count, meaning) in COUNTERS.items():
            yield self._counter(name, meaning, self.counters.total(count))

    def _restarts(self) -> Metric:
        return self._counter(
            "holdfast_child_restarts_total",
            "How often the process that computes was replaced because it died.",
            max(0.0, self.counters.total(Count.CHILDREN_STARTED) - 1),
        )

    def _counter(self, name: str, meaning: str, value: float) -> Metric:
        family = CounterMetricFamily(name, meaning, labels=["worker"])
        family.add_metric([self.worker.name], value)
        return family

    def _stations(self) -> Metric:
        family = CounterMetricFamily(
            "holdfast_inference_seconds_total",
            "Where the time of inference goes. One after the other: wait for a batch, launch (on a CPU the "
            "computation itself), fetch. Beside them, what the device does: copy_in, compute, copy_out.",
            labels=["worker", "station"],
        )
        for station, count in STATIONS.items():
            family.add_metric([self.worker.name, station], self.counters.total(count))
        return family

    def _commits(self) -> Metric:
        family = HistogramMetricFamily(
            "holdfast_commit_seconds", "How long commits took until they were durable.", labels=["worker"]
        )
        buckets = [("+Inf" if bound == float("inf") else str(bound), number)
                   for bound, number in self.counters.commits()]  # fmt: skip
        family.add_metric([self.worker.name], buckets, self.counters.total(Count.COMMITTING))
        return family

    def _gpu(self, load: GpuLoad) -> Iterator[Metric]:
        for name, meaning, value in (
            ("memory_used_bytes", "Memory of the worker's GPU that is taken.", load.memory_bytes),
            ("memory_total_bytes", "Memory of the worker's GPU.", load.memory_total_bytes),
            ("utilization_ratio", "Share of time in which the GPU computed.", load.share),
        ):
            if value is not None:
                family = GaugeMetricFamily(f"holdfast_gpu_{name}", meaning, labels=["worker"])
                family.add_metric([self.worker.name], value)
                yield family


def backlog_families(backlog: Backlog) -> Iterator[Metric]:
    """What all workers of a server see alike, each at its own moment: take the average, not the sum."""
    length = GaugeMetricFamily(
        "holdfast_queue_length", "Messages that wait in a queue: one per shard.", labels=["queue"]
    )
    age = GaugeMetricFamily(
        "holdfast_oldest_message_age_seconds",
        "How long the message that is next in a queue has waited; 0 when none waits.",
        labels=["queue"],
    )
    sequences = GaugeMetricFamily(
        "holdfast_job_sequences",
        "Sequences of a job that are done, quarantined or left; of jobs that ended, for ten minutes.",
        labels=["job_id", "state"],
    )
    shards = GaugeMetricFamily("holdfast_job_shards", "Shards of a job by state.", labels=["job_id", "state"])
    for queue in backlog.queues:
        length.add_metric([queue.name], queue.length)
        if queue.oldest_seconds is not None:
            age.add_metric([queue.name], queue.oldest_seconds)
    for job in backlog.jobs:
        for what, number in job.sequences.items():
            sequences.add_metric([job.job_id, what], number)
        for state, number in job.shards.items():
            shards.add_metric([job.job_id, str(state)], number)
    yield from (length, age, sequences, shards)
