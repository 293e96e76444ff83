"""How much memory a worker takes, by the number of records in its job; and how much a whole job."""

import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common.corpora import write_fasta
from benchmarks.common.memory import Held, MemorySampler
from benchmarks.throughput.command import HOLDFAST, embed_command, environment, job_directory
from queue_app.errors import HoldfastError
from queue_app.job.directory import JobDir
from queue_app.status.snapshot import snapshots

NUM_RESIDUES = 30
EVERY_SECONDS = 0.05
MODEL = "mock:16"


@dataclass(slots=True)
class Footprint:
    """Peak resident megabytes: of the worker's child, which computes, and of the command itself."""

    num_records: int
    num_shards: int = 0
    child: float = 0.0
    command: float = 0.0


def footprint(home: Path, num_records: int) -> Footprint:
    """One `holdfast embed` of short proteins with one worker, watched until it ends."""
    found = Footprint(num_records)
    source = write_fasta(home / f"{num_records}.fasta", num_records, NUM_RESIDUES)
    output = home / f"{num_records}.npy"
    with subprocess.Popen(
        embed_command(source, MODEL, output), env=environment(), stdout=subprocess.DEVNULL
    ) as process:
        watch(process, job_directory(output), found)
    if process.returncode:
        raise SystemExit(f"holdfast embed of {num_records:,} records: exit code {process.returncode}")
    found.num_shards = len(job_directory(output).load().shards)
    return found


def held_by_job(source: Path, model: Path, output: Path, pool: str) -> Held:
    """The most that `holdfast embed` with its default workers held at one time, all processes together."""
    command = [str(HOLDFAST), "embed", str(source), "-m", str(model), "-o", str(output), "--pool", pool]
    with MemorySampler() as sampler:
        subprocess.run([*command, "--device", "cpu", "--quiet"], check=True, env=environment())
    return sampler.peak


def watch(process: subprocess.Popen[bytes], job_dir: JobDir, into: Footprint) -> None:
    """VmHWM is the kernel's own peak: a process is only to be read once, right before it ends."""
    children: list[int] = []
    while process.poll() is None:
        alive = [megabytes for pid in children if (megabytes := peak_megabytes(pid))]
        into.child = max(into.child, *alive, 0.0)
        into.command = max(into.command, peak_megabytes(process.pid))
        if not alive:
            children = list(child_pids(job_dir))
        time.sleep(EVERY_SECONDS)


def child_pids(job_dir: JobDir) -> Iterator[int]:
    """As `holdfast status --json` says them; none while there is no job or no worker yet."""
    try:
        for found in snapshots(str(job_dir.path), None):
            yield from (worker.child_pid for worker in found.workers if worker.child_pid)
    except HoldfastError:
        return


def peak_megabytes(pid: int) -> float:
    """0 when the process is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    match = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(match[1]) / 1024 if match else 0.0
