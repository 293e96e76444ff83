"""How many threads a job's CPU workers get when it is submitted."""

from dataclasses import replace
from pathlib import Path

import pytest
import redis

import queue_app
from checkpoint.process_identity import ProcessId
from queue_app.api.cpu_threads import threads_of
from queue_app.coordination.dealing import tick
from queue_app.coordination.workers import Owner, WorkerEntry
from queue_app.errors import JobChanged, UsageError
from queue_app.host.devices import num_cores
from queue_app.job.directory import JobDir


def worker(queue: str, host: str, cores: int) -> WorkerEntry:
    name = f"{queue}@{host}"
    owner = Owner(name, f"boot-of-{host}:1", ProcessId(7, 7)).encode()
    return WorkerEntry(name, queue, "cpu", host, 7, 8, owner, cores=cores)


def test_the_workers_of_a_host_share_its_cores() -> None:
    assert threads_of([worker("cpu0", "a", 16)]) == 16
    assert threads_of([worker("cpu0", "a", 16), worker("cpu1", "a", 16)]) == 8
    assert threads_of([worker(f"cpu{number}", "a", 2) for number in range(4)]) == 1


def test_of_uneven_hosts_the_middle_counts_and_who_tells_nothing_does_not() -> None:
    fleet = [worker("cpu0", host, cores) for host, cores in {"a": 2, "b": 32, "c": 32, "d": 0}.items()]
    assert threads_of([*fleet, worker("gpu0", "e", 128)]) == 32
    assert threads_of([worker("cpu0", "d", 0)]) is None


def submit(home: Path, url: str, threads: int | None = None, queue: str = "cpu0") -> int:
    """Answers the number of threads of the job."""
    job = queue_app.submit(
        sequences=["MKV", "MKL"], model="mock:4", output=home / "out.npy", broker_url=url, queues=[queue],
        threads=threads,
    )  # fmt: skip
    return JobDir(job.job_dir.path).load().threads


def test_a_job_has_the_threads_of_its_workers_hosts_not_of_the_host_it_was_submitted_from(
    tmp_path: Path, client: redis.Redis, server_url: str
) -> None:
    elsewhere = worker("cpu0", "big", 5 * num_cores())
    tick(client, elsewhere)
    tick(client, replace(elsewhere, name="gpu0@big", queue="gpu0", cores=999))
    assert submit(tmp_path, server_url) == 5 * num_cores()


def test_where_no_worker_lives_this_host_shall_do(
    tmp_path: Path, client: redis.Redis, server_url: str
) -> None:
    assert submit(tmp_path, server_url) == num_cores()


def test_a_number_that_is_asked_for_is_kept_and_another_one_refused_later(
    tmp_path: Path, client: redis.Redis, server_url: str
) -> None:
    assert submit(tmp_path, server_url, threads=3) == 3
    assert submit(tmp_path, server_url) == 3
    with pytest.raises(JobChanged, match="3 threads per worker, not 4"):
        submit(tmp_path, server_url, threads=4)


def test_threads_are_for_processors(tmp_path: Path, client: redis.Redis, server_url: str) -> None:
    with pytest.raises(UsageError, match="--threads 2: for CPU workers"):
        submit(tmp_path, server_url, threads=2, queue="gpu0")
