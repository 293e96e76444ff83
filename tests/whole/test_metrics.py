"""A real worker's metrics as Prometheus reads them, through crashes; and the dashboard that shows them."""

import json
import os
import re
import signal
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families

from queue_app.celery_app import EMBED_SHARD, make_app
from queue_app.coordination import keys
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.redis_client import connect
from queue_app.coordination.states import ShardState
from queue_app.coordination.workers import WorkerEntry, live_workers
from tests.support import ROOT
from tests.support.command_runs import holdfast, running
from tests.support.free_ports import free_ports
from tests.support.jobs_and_inputs import write_fasta
from tests.support.waiting import wait_for

NUM_GOOD, NUM_BAD, NUM_SHARDS = 300, 2, 8
NVML = """
from types import SimpleNamespace

class NVMLError(Exception): ...

def nvmlInit(): ...
def nvmlDeviceGetHandleByIndex(number):
    if number != 7:
        raise NVMLError
    return number
def nvmlDeviceGetMemoryInfo(_): return SimpleNamespace(used=2048 << 20, total=8192 << 20)
def nvmlDeviceGetUtilizationRates(_): return SimpleNamespace(gpu=37)
"""


@dataclass(frozen=True)
class Scrape:
    """One answer of a worker: samples by name and labels, help texts by family."""

    samples: dict[tuple[str, frozenset[tuple[str, str]]], float]
    families: dict[str, Any] = field(repr=False)

    @classmethod
    def of(cls, port: int) -> "Scrape":
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        }
        return cls(samples, {family.name: family for family in families})

    def sum(self, name: str, **labels: str) -> float:
        """Over every sample that has these labels; a KeyError where there is none."""
        found = [value for (own, its), value in self.samples.items() if own == name and labels.items() <= its]
        if not found:
            raise KeyError(name)
        return sum(found)

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self.samples}


@dataclass(frozen=True)
class Run:
    """A job that a process was killed in. cpu0 computes, gpu7 idles beside it."""

    ports: list[int]
    early: Scrape
    """Taken when the job was under way."""
    scrapes: list[Scrape]
    """All that were taken of cpu0, in order; the last when the job had ended."""
    listening: set[int]
    """Processes of cpu0 that hold its port, the child that computes under way."""

    @property
    def last(self) -> Scrape:
        return self.scrapes[-1]


def worker_on(client: redis.Redis, queue: str) -> WorkerEntry | None:
    found = [entry for entry in live_workers(client, 15) if entry.queue == queue and entry.child_pid]
    return found[0] if found else None


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, server: Any) -> Iterator[Run]:
    home, client = tmp_path_factory.mktemp("metrics"), connect(server.address.url)
    client.flushall()
    (home / "driver").mkdir()
    (home / "driver/pynvml.py").write_text(NVML)
    broker = {"HOLDFAST_BROKER_URL": server.address.url, "HOLDFAST_PRELOAD_TORCH": "0"}
    path = {"PYTHONPATH": str(home / "driver")}
    ports = free_ports(0, 7)
    scrapes: list[Scrape] = []

    def reached(condition: Callable[[Scrape], bool]) -> Scrape | None:
        scrapes.append(Scrape.of(ports[0]))
        return scrapes[-1] if condition(scrapes[-1]) else None

    with running("worker", "cpu0", "gpu7", "--metrics-port", str(ports[0]), **broker, **path):
        worker = wait_for(lambda: worker_on(client, "cpu0"), "cpu0")
        wait_for(lambda: worker_on(client, "gpu7"), "gpu7")
        assert worker is not None
        job_id = enqueue(home, **broker)
        early = wait_for(lambda: reached(is_under_way), "some commits")
        assert early is not None
        listening = {pid for pid in (worker.pid, worker.child_pid) if listens(pid, ports[0])}
        wait_for(lambda: stopped_at_work(client, job_id, worker.child_pid, ports[0]), "a shard under way")
        # A wake-up call too many, which nobody takes while the child stands still.
        make_app(server.address.url).send_task(EMBED_SHARD, args=[job_id, 0], queue="cpu0")
        wait_for(lambda: reached(is_queue_told), "what waits in the queue")
        os.kill(worker.child_pid, signal.SIGKILL)
        wait_for((home / "out.npy.card.json").exists, "the output")
        wait_for(lambda: reached(is_over), "the last figures")
        yield Run(ports, early, scrapes, listening)
    client.flushall()


def enqueue(home: Path, **broker: str) -> str:
    """A job of some seconds, with two bad records; answers its id."""
    fasta = write_fasta(home / "in.fasta", NUM_GOOD)
    fasta.write_text(fasta.read_text() + ">bad1\nMK1V\n>bad2\nM!K\n")
    job = [fasta, "-m", "mock:8,delay_ms=40", "-o", home / "out.npy", "--queues", "cpu0"]
    cut = ["--shards", str(NUM_SHARDS), "--toks-per-batch", "512", "--commit-seconds", "0.1"]
    return holdfast("enqueue", *job, *cut, **broker).stdout.strip()


def listens(pid: int, port: int) -> bool:
    return any(
        each.status == psutil.CONN_LISTEN and each.laddr.port == port
        for each in psutil.Process(pid).net_connections("tcp")
    )


def stopped_at_work(client: redis.Redis, job_id: str, pid: int, port: int) -> bool:
    """Stop a process, unless it holds no shard, or is about to count one that it has published beside it: it
    would leave no lease behind, or take the count with it."""
    os.kill(pid, signal.SIGSTOP)
    published = CheckpointManifest(client, job_id).job_status()
    assert published is not None
    counted = Scrape.of(port).sum("holdfast_shards_completed_total")
    if client.zcard(keys.running(job_id)) and counted == published.shards[ShardState.DONE]:
        return True
    os.kill(pid, signal.SIGCONT)
    return False


def is_under_way(now: Scrape) -> bool:
    return now.sum("holdfast_sequences_embedded_total") > 20


def is_queue_told(now: Scrape) -> bool:
    return "holdfast_queue_length" in now.names and now.sum("holdfast_queue_length", queue="cpu0") > 0


def is_over(now: Scrape) -> bool:
    """Queue and job are told as they were a moment ago."""
    if "holdfast_job_shards" not in now.names:
        return False
    done = now.sum("holdfast_job_shards", state="done")
    return done == NUM_SHARDS and now.sum("holdfast_queue_length", queue="cpu0") == 0


def test_each_worker_serves_at_the_port_of_its_number(run: Run) -> None:
    for port, queue, device in zip(run.ports, ("cpu0", "gpu7"), ("cpu", "cuda:7"), strict=True):
        assert Scrape.of(port).sum("holdfast_worker_up", queue=queue, device=device) == 1


def test_every_sequence_counts_once_though_a_process_was_killed(run: Run) -> None:
    """What was computed and not committed when it died is computed again, and counts when it is durable.

    It dies without a chance to count its last commit, so that one may be missing.
    """
    embedded = run.last.sum("holdfast_sequences_embedded_total")
    assert NUM_GOOD * 0.8 < embedded <= NUM_GOOD
    assert run.last.sum("holdfast_sequences_quarantined_total") == NUM_BAD
    assert run.last.sum("holdfast_child_restarts_total") == 1
    workers = [Scrape.of(port) for port in run.ports]  # whoever sees first that it died takes its lease away
    assert sum(each.sum("holdfast_lease_expired_total") for each in workers) >= 1


def test_no_counter_ever_sinks_not_even_when_a_process_is_killed(run: Run) -> None:
    counted = [key for key in run.early.samples if re.search(r"_(total|bucket|count|sum)$", key[0])]
    assert len(counted) > 20
    for before, after in zip(run.scrapes, run.scrapes[1:], strict=False):
        assert not [key for key in counted if after.samples[key] < before.samples[key]]


def test_work_is_counted_in_all_its_units(run: Run) -> None:
    now = run.last
    shards = now.sum("holdfast_shards_completed_total")
    assert shards == now.sum("holdfast_job_shards", state="done") == NUM_SHARDS
    assert now.sum("holdfast_batches_total") > 30
    assert now.sum("holdfast_tokens_embedded_total") > 20 * now.sum("holdfast_sequences_embedded_total")
    assert now.sum("holdfast_inference_seconds_total", station="launch") > 0
    assert now.sum("holdfast_commit_seconds_count") >= shards - 1
    assert now.sum("holdfast_commit_seconds_bucket", le="+Inf") == now.sum("holdfast_commit_seconds_count")
    assert now.sum("holdfast_commit_seconds_sum") > 0


def test_queues_and_jobs_are_told_while_they_last(run: Run) -> None:
    def told(name: str, **labels: str) -> list[float]:
        return [each.sum(name, **labels) for each in run.scrapes if name in each.names]

    assert max(told("holdfast_queue_length", queue="cpu0")) > 0
    assert max(told("holdfast_oldest_message_age_seconds", queue="cpu0")) > 0
    assert run.last.sum("holdfast_queue_length", queue="cpu0") == 0
    assert run.last.sum("holdfast_job_sequences", state="done") == NUM_GOOD
    assert run.last.sum("holdfast_job_sequences", state="quarantined") == NUM_BAD


def test_the_gpus_figures_are_those_of_the_workers_own(run: Run) -> None:
    now = Scrape.of(run.ports[1])
    assert now.sum("holdfast_gpu_memory_used_bytes") == 2048 << 20
    assert now.sum("holdfast_gpu_memory_total_bytes") == 8192 << 20
    assert now.sum("holdfast_gpu_utilization_ratio") == 0.37
    assert not [name for name in run.last.names if "gpu" in name]


def test_the_port_is_the_parents_alone(run: Run) -> None:
    """A child that dies later than its parent would keep it from the worker that takes its place."""
    assert len(run.listening) == 1


def test_every_metric_says_what_it_means_and_is_named_by_convention(run: Run) -> None:
    families = {**run.last.families, **Scrape.of(run.ports[1]).families}
    for name, family in families.items():
        assert re.fullmatch(r"holdfast_[a-z_]+", name)
        assert family.documentation.endswith("."), name
        totals = {sample.name for sample in family.samples if family.type == "counter"}
        assert all(total.endswith("_total") for total in totals)


def test_the_labels_that_grow_with_the_data_are_the_jobs_in_view_alone(run: Run) -> None:
    labels = {label for _, its in run.last.samples for label, _ in its}
    assert labels == {"worker", "queue", "device", "station", "reason", "le", "job_id", "state"}


# ---- the dashboard


def dashboard() -> dict[str, Any]:
    found = json.loads((ROOT / "deploy/grafana/holdfast.json").read_text())
    assert isinstance(found, dict)
    return found


def expressions() -> list[str]:
    queries = [variable["query"]["query"] for variable in dashboard()["templating"]["list"]]
    return queries + [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]


def test_the_dashboard_shows_metrics_that_workers_serve_with_the_labels_they_have(run: Run) -> None:
    served: dict[str, set[str]] = {}
    for scrape in (run.last, Scrape.of(run.ports[1])):
        for name, labels in scrape.samples:
            served.setdefault(name, set()).update(label for label, _ in labels)
    for expression in expressions():
        named = re.findall(r"holdfast_\w+", expression)
        assert named, expression
        assert set(named) <= set(served), expression
        matched = re.findall(r"(\w+)\s*=~?\s*\"", expression) + [
            label.strip() for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(",")
        ]
        assert set(matched) <= {label for name in named for label in served[name]}, expression


def test_the_dashboard_shows_every_metric(run: Run) -> None:
    shown = {re.sub("_bucket$", "", name) for name in re.findall(r"holdfast_\w+", " ".join(expressions()))}
    kinds = {**run.last.families, **Scrape.of(run.ports[1]).families}
    served = {name + ("_total" if family.type == "counter" else "") for name, family in kinds.items()}
    unshown = {"holdfast_batches_total", "holdfast_sequences_quarantined_total", "holdfast_job_shards"}
    assert shown == served - unshown


def test_no_two_panels_of_the_dashboard_lie_on_each_other() -> None:
    cells = [
        (x, y)
        for panel in dashboard()["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) == 23
