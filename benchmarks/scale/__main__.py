"""How far one server goes: 100,000 shards, and 1,000 workers that ask it.

    python -m benchmarks.scale [--shards N] [--workers N] [--seconds S] [--report FILE.md]

A real server (Valkey), on this machine. `enqueue` is the whole command on a temporary file system; the
workers are light threads that speak the real protocol (benchmarks/scale/pretended.py).
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import redis
from rich.console import Console
from rich.table import Table

from benchmarks.common.checkout import ROOT
from benchmarks.common.machine import describe_machine
from benchmarks.common.tables import as_markdown, table_with
from queue_app.api.submit import submit
from queue_app.coordination.embedded_server import EmbeddedServer
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.redis_client import connect
from queue_app.host.processes import ProcessFile
from queue_app.job.directory import JobDir
from queue_app.job.spec import Progress
from queue_app.status.snapshot import snapshot

console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
TMPFS = Path("/dev/shm")
PROCESSES = 4
"""That the pretended workers share."""
SLOW_MICROSECONDS = 1_000
RECORDS_PER_SHARD = 16


@contextmanager
def a_server() -> Iterator[tuple[str, redis.Redis]]:
    with tempfile.TemporaryDirectory(prefix="holdfast-scale-", dir=TMPFS if TMPFS.is_dir() else None) as home:
        server = EmbeddedServer(JobDir(Path(home)), ProcessFile(Path(home) / "processes.json"))
        url = server.start().url
        try:
            yield url, connect(url)
        finally:
            server.stop()


@dataclass(frozen=True, slots=True)
class Shards:
    """What so many shards cost."""

    num_shards: int
    enqueued_per_second: float
    manifest_per_second: float
    bytes_waiting: float
    bytes_done: float
    status_ms: float
    slowest_call_ms: float


def write_sequences(path: Path, num_records: int) -> None:
    rng = random.Random(0)
    letters = "ACDEFGHIKLMNPQRSTVWY"
    with path.open("w") as file:
        for number in range(num_records):
            file.write(f">p{number}\n{''.join(rng.choices(letters, k=30))}\n")


def used_bytes(client: redis.Redis) -> int:
    return int(cast("dict[str, Any]", client.info("memory"))["used_memory"])


def timed(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def measure_shards(num_shards: int) -> Shards:
    with a_server() as (url, client), tempfile.TemporaryDirectory(dir=TMPFS) as home:
        fasta = Path(home) / "a.fasta"
        write_sequences(fasta, num_shards * RECORDS_PER_SHARD)
        client.config_set("slowlog-log-slower-than", SLOW_MICROSECONDS)
        client.slowlog_reset()
        empty = used_bytes(client)
        output = Path(home) / "out.npy"
        seconds = timed(
            lambda: submit(
                fasta, model="mock:4", output=output, num_shards=num_shards, broker_url=url, queues=["gpu0"]
            )
        )
        directory = JobDir(Path(f"{output}.holdfast"))
        job = directory.load()
        waiting = (used_bytes(client) - empty) / num_shards
        manifest = CheckpointManifest(client, job.job_id)
        status = min(timed(lambda: snapshot(client, job.job_id, lease_seconds=15)) for _ in range(5))
        slow = cast("list[dict[str, Any]]", client.slowlog_get(128))
        manifest.forget()
        by_manifest = timed(lambda: manifest.initialize(job, str(directory.path), {}))
        manifest.forget()
        done = {shard.index: Progress(1, shard.num_records, 0) for shard in job.shards}
        before = used_bytes(client)
        manifest.initialize(job, str(directory.path), done)
        return Shards(
            num_shards,
            num_shards / seconds,
            num_shards / by_manifest,
            waiting,
            (used_bytes(client) - before) / num_shards,
            1000 * status,
            max((each["duration"] for each in slow), default=0) / 1000,
        )


@dataclass(frozen=True, slots=True)
class Load:
    """What so many workers ask of the server."""

    num_workers: int
    shard_seconds: float
    core_share: float
    commands_per_worker: float
    done_per_second: float
    slowest_call_ms: float


def measure_load(num_workers: int, shard_seconds: float, seconds: float) -> Load:
    with a_server() as (url, client):
        if shard_seconds:
            job = tiny_job(int(2 * num_workers * (seconds + 30) / shard_seconds))
            CheckpointManifest(client, job.job_id).initialize(job, "/nowhere", {})
        each = num_workers // PROCESSES
        length = seconds + 25
        command = [sys.executable, "-m", "benchmarks.scale.pretended", url]
        processes = [
            subprocess.Popen(
                [*command, *map(str, (number * each, each, length, shard_seconds))],
                cwd=ROOT, stdout=subprocess.PIPE, text=True,
            )
            for number in range(PROCESSES)
        ]  # fmt: skip
        time.sleep(15)  # all have come up
        client.config_set("slowlog-log-slower-than", SLOW_MICROSECONDS)
        client.slowlog_reset()
        before = counted(client)
        time.sleep(seconds)
        after = counted(client)
        slow = cast("list[dict[str, Any]]", client.slowlog_get(128))
        for process in processes:
            process.wait()
    took, processor, commands, done = (late - early for early, late in zip(before, after, strict=True))
    return Load(
        each * PROCESSES,
        shard_seconds,
        processor / took,
        commands / took / (each * PROCESSES),
        done / took,
        max((each["duration"] for each in slow), default=0) / 1000,
    )


def tiny_job(num_shards: int) -> Any:
    from tests.support.jobs_and_inputs import make_job

    job = make_job(num_shards=num_shards, records_per_shard=RECORDS_PER_SHARD)
    return replace(job, options=replace(job.options, device_class="cuda"))


def counted(client: redis.Redis) -> tuple[float, float, float, float]:
    """Time, processor seconds of the server, commands that clients sent, shards that are done."""
    processor = cast("dict[str, Any]", client.info("cpu"))
    stats = cast("dict[str, dict[str, Any]]", client.info("commandstats"))
    # The server counts what scripts call as well: these are of clients alone.
    of_clients = ("evalsha", "brpop", "publish", "lpush", "multi", "exec", "ping", "smembers")
    commands = sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in of_clients)
    names = list(client.scan_iter("holdfast:{*}:job"))
    done = sum(int(client.hget(name, "done") or 0) for name in names)
    used = processor["used_cpu_sys"] + processor["used_cpu_user"]
    return time.monotonic(), used, commands, done


def shards_table(found: Shards) -> Table:
    table = table_with(f"{found.num_shards:,} shards", "", "measured", "asked")
    rows = (
        ("enqueue, the whole command, shards/s", f"{found.enqueued_per_second:,.0f}", ">= 2,000"),
        ("of it the manifest, shards/s", f"{found.manifest_per_second:,.0f}", ""),
        ("Redis, bytes a shard, all waiting", f"{found.bytes_waiting:.0f}", "<= 400"),
        ("Redis, bytes a shard, all done", f"{found.bytes_done:.0f}", "<= 400"),
        ("status, ms", f"{found.status_ms:.1f}", "<= 50"),
        ("slowest call on the server, ms", f"{found.slowest_call_ms:.1f}", "<= 20"),
    )
    for row in rows:
        table.add_row(*row)
    return table


def load_table(found: list[Load]) -> Table:
    table = table_with(
        "Workers",
        "workers, seconds a shard",
        "share of a core",
        "commands/s a worker",
        "shards/s",
        "slowest call, ms",
    )
    for each in found:
        what = f"{each.shard_seconds:.0f} s" if each.shard_seconds else "idle"
        table.add_row(
            f"{each.num_workers:,}, {what}",
            f"{each.core_share:.3f}",
            f"{each.commands_per_worker:.2f}",
            f"{each.done_per_second:.1f}",
            f"{each.slowest_call_ms:.1f}",
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shards", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=45.0, help="of each measurement")
    parser.add_argument("--report", type=Path)
    asked = parser.parse_args()
    os.environ["HOLDFAST_STATE"] = ""  # the user's own memory of jobs is not for these
    tables = []
    if asked.shards:
        tables.append(shards_table(measure_shards(asked.shards)))
        console.print(tables[-1])
    loads = []
    for num_workers in (asked.workers // 10, asked.workers):
        for shard_seconds in (0.0, 20.0) if num_workers else ():
            loads.append(measure_load(num_workers, shard_seconds, asked.seconds))
            console.print(loads[-1])
    if loads:
        tables.append(load_table(loads))
        console.print(tables[-1])
    if asked.report:
        head = ["# Scale", "", __doc__.strip(), "", *(f"- {line}" for line in describe_machine("cpu", 1)), ""]
        asked.report.write_text("\n".join([*head, *map(as_markdown, tables)]) + "\n")


if __name__ == "__main__":
    main()
