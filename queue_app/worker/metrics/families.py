"""Every Prometheus metric of a worker: its name, what it means, and where its value comes from.

Labels are few for as long as a worker lives: worker, queue, station, state, and the jobs in view. A job's is
`job_id`, for Prometheus keeps `job` to itself.
"""

from collections.abc import Iterator, Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from queue_app.coordination.workers import WorkerEntry
from queue_app.host.gpu_load import GpuLoad
from queue_app.shown import visible
from queue_app.worker.metrics.backlog import Backlog
from queue_app.worker.metrics.counters import DROPPED, Count, Counters

COUNTERS = {
    "holdfast_sequences_embedded_total": (
        Count.SEQUENCES_EMBEDDED,
        "Sequences whose vectors this worker committed to disk.",
    ),
    "holdfast_sequences_quarantined_total": (
        Count.SEQUENCES_QUARANTINED,
        "Sequences that were quarantined in the shards that this worker completed.",
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
        "Failures of this worker that are its host's, as a model or a disk that is not there; tried again.",
    ),
    "holdfast_garbage_total": (
        Count.GARBAGE,
        "How often this worker met on the server what cannot be ours, and passed it over.",
    ),
    "holdfast_unsigned_total": (
        Count.UNSIGNED,
        "Leases that this worker took for nobody's, as no key of the fleet has signed them.",
    ),
    "holdfast_server_waits_total": (
        Count.SERVER_WAITS,
        "Pauses of this worker because the server was away while it had a message in hand.",
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


RESTING = "1 while the worker rests, as it failed at every job there is; its trouble says at what. Else 0."
UP = "1 while the worker is registered with the server and has a process to compute in, else 0."
RESTARTS = "How often the process that computes was replaced because it died."
INFERENCE = (
    "Where the time of inference goes. One after the other: wait for a batch, launch (on a CPU the "
    "computation itself), fetch. Beside them, what the device does: copy_in, compute, copy_out."
)
DROPPED_MEANS = (
    "Messages that this worker did not take, by why: strangers write to its queues, or keys differ."
)
LENGTH = "Messages that wait in a queue: one per shard."
AGE = "How long the message that is next in a queue has waited; 0 when none waits."
SEQUENCES = "Sequences of a job that are done, quarantined or left; of jobs that ended, for ten minutes."

Sample = tuple[Mapping[str, str], float]
"""Labels and value."""


def families(
    worker: WorkerEntry,
    counters: Counters,
    *,
    is_up: bool,
    is_resting: bool,
    load: GpuLoad | None,
    backlog: Backlog | None,
) -> Iterator[Metric]:
    """Made anew for each scrape, from memory alone; of a load or a backlog that is not known, nothing."""
    ours = {"worker": worker.name}
    yield gauge("holdfast_worker_up", UP, [({**ours, "queue": worker.queue, "device": worker.device}, is_up)])
    yield gauge("holdfast_worker_resting", RESTING, [(ours, is_resting)])
    for name, (count, meaning) in COUNTERS.items():
        yield counter(name, meaning, [(ours, counters.total(count))])
    restarts = max(0.0, counters.total(Count.CHILDREN_STARTED) - 1)
    yield counter("holdfast_child_restarts_total", RESTARTS, [(ours, restarts)])
    stations = [({**ours, "station": station}, counters.total(count)) for station, count in STATIONS.items()]
    yield counter("holdfast_inference_seconds_total", INFERENCE, stations)
    dropped = [({**ours, "reason": str(reason)}, counters.total(count)) for reason, count in DROPPED.items()]
    yield counter("holdfast_messages_dropped_total", DROPPED_MEANS, dropped)
    yield _commits(worker, counters)
    for name, meaning, value in _gpu_values(load) if load else ():
        if value is not None:
            yield gauge(name, meaning, [(ours, value)])
    if backlog is not None:
        yield from backlog_families(backlog)


def _gpu_values(load: GpuLoad) -> Iterator[tuple[str, str, float | None]]:
    yield "holdfast_gpu_memory_used_bytes", "Memory of the worker's GPU that is taken.", load.memory_bytes
    yield "holdfast_gpu_memory_total_bytes", "Memory of the worker's GPU.", load.memory_total_bytes
    yield "holdfast_gpu_utilization_ratio", "Share of time in which the GPU computed.", load.share


def _commits(worker: WorkerEntry, counters: Counters) -> Metric:
    family = HistogramMetricFamily(
        "holdfast_commit_seconds", "How long commits took until they were durable.", labels=["worker"]
    )
    buckets = [("+Inf" if bound == float("inf") else str(bound), number)
               for bound, number in counters.commits()]  # fmt: skip
    family.add_metric([worker.name], buckets, counters.total(Count.COMMITTING))
    return family


def backlog_families(backlog: Backlog) -> Iterator[Metric]:
    """What all workers of a server see alike, each at its own moment: take the average, not the sum."""
    ages = {queue.name: queue.oldest_seconds for queue in backlog.queues}
    yield gauge("holdfast_queue_length", LENGTH, [({"queue": q.name}, q.length) for q in backlog.queues])
    known_ages = [({"queue": name}, age) for name, age in ages.items() if age is not None]
    yield gauge("holdfast_oldest_message_age_seconds", AGE, known_ages)
    sequences = [
        ({"job_id": job_id, "state": state}, number)
        for job_id, job in backlog.jobs.items()
        for state, number in (
            ("done", job.sequences_done),
            ("quarantined", job.sequences_quarantined),
            ("left", job.num_left),
        )
    ]
    yield gauge("holdfast_job_sequences", SEQUENCES, sequences)
    shards = [
        ({"job_id": job_id, "state": str(state)}, number)
        for job_id, job in backlog.jobs.items()
        for state, number in job.shards.items()
    ]
    yield gauge("holdfast_job_shards", "Shards of a job by state.", shards)


def gauge(name: str, meaning: str, samples: Sequence[Sample]) -> Metric:
    return _filled(GaugeMetricFamily, name, meaning, samples)


def counter(name: str, meaning: str, samples: Sequence[Sample]) -> Metric:
    return _filled(CounterMetricFamily, name, meaning, samples)


def _filled(
    kind: type[GaugeMetricFamily | CounterMetricFamily], name: str, meaning: str, samples: Sequence[Sample]
) -> Metric:
    """All samples of a family have the same labels; one without samples is shown all the same."""
    family = kind(name, meaning, labels=list(samples[0][0]) if samples else ())
    for labels, value in samples:
        family.add_metric([visible(label) for label in labels.values()], value)
    return family
