"""How many threads the CPU workers of a job get. Fixed when it is submitted: another number of them would
change the last bits."""

from collections import Counter
from collections.abc import Sequence
from statistics import median_low

import redis

from queue_app.coordination.workers import WorkerEntry, live_workers
from queue_app.errors import JobChanged, UsageError
from queue_app.host.devices import cpu_threads
from queue_app.host.queues import device_class
from queue_app.job.spec import Job
from queue_app.settings import runtime_config


def choose_threads(client: redis.Redis, queues: Sequence[str], asked: int | None) -> int:
    """What was asked for; else what the live CPU workers have cores for: the job runs on their hosts, not on
    this one. Where none lives, this host shall do.

    Raises UsageError for GPUs, where threads change nothing.
    """
    is_cpu = device_class(queues) == "cpu"
    if asked is not None and not is_cpu:
        raise UsageError(f"--threads {asked}: for CPU workers, and {', '.join(queues)} are GPUs")
    alive = live_workers(client, runtime_config().lease_seconds) if is_cpu else []
    return asked or threads_of(alive) or cpu_threads(len(queues))


def threads_of(workers: Sequence[WorkerEntry]) -> int | None:
    """The cores of each CPU worker, those of one host sharing them out; the middle of all, as hosts differ.

    None where no worker says how many its host has.
    """
    on_cpu = [worker for worker in workers if worker.kind == "cpu" and worker.cores]
    num_on_host = Counter(worker.host_key for worker in on_cpu)
    shares = [max(1, worker.cores // num_on_host[worker.host_key]) for worker in on_cpu]
    return median_low(shares) if shares else None


def require_same_threads(job: Job, asked: int | None) -> None:
    """Raises JobChanged where a job that was there before is computed with another number."""
    if asked not in (None, job.threads):
        raise JobChanged(
            f"job {job.job_id} is computed with {job.threads} threads per worker, not {asked}: another "
            "number could change the last bits; leave out --threads, or begin anew with --overwrite"
        )
