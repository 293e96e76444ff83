"""How soon a shard goes on after its whole worker was killed, beside stock Celery.

    python -m benchmarks.takeover [--rounds N] [--model M] [--report FILE.md]

Default settings throughout. One shard is being computed; its worker, parent and child, is SIGKILLed at a
random moment; the clock runs from there to the next commit of that shard in any worker's log:

    same host, idle      another worker of the host has nothing to do
    same host, restarted the only worker is started again, as a supervisor does
    another host         an idle worker that can prove nobody's death, so the lease has to run out

"Own" is the time without what the new worker spent on starting Python and torch and on loading the model.
Stock Celery runs beside it in the same minutes: a killed worker and an idle one, with the default
visibility timeout and with one of 20 seconds (which no task may outlast: it would run twice).
"""

import argparse
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import median, quantiles

from rich.console import Console
from rich.table import Table

from benchmarks.common.checkout import ROOT
from benchmarks.common.tables import row_of
from benchmarks.takeover.stock_celery import Stock, stock
from queue_app.coordination.embedded_server import EmbeddedServer
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.redis_client import connect
from queue_app.coordination.workers import Owner
from queue_app.host.processes import ProcessFile, kill_session, spawn
from queue_app.job.directory import JobDir
from queue_app.worker.supervisor import worker_command
from tests.campaigns.chaos.stage import KILL_POINTS
from tests.support.jobs_and_inputs import write_fasta
from tests.support.waiting import wait_for

console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
LINE = re.compile(r".*\[(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),(\d{3}): \w+/[^\]]+\] (.*)")
PATIENCE_SECONDS = 120.0
RESTART_SECONDS = 0.25
"""What `holdfast embed` takes at most to see that a worker is gone."""
TUNED_TIMEOUT_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Event:
    """A line of a worker's log; `at` in seconds since the epoch."""

    at: float
    worker: str
    text: str


@dataclass(frozen=True, slots=True)
class Takeover:
    """Seconds from the kill to the next commit; `start` of them until the new worker had its model.

    That is Python, torch and the model's weights, and 0 for a worker that had them already.
    """

    total: float
    start: float

    @property
    def own(self) -> float:
        """What Holdfast adds: seeing the death, the message, the lease, the store, the first commit."""
        return self.total - self.start


@dataclass(slots=True)
class Scene:
    """A server, a job of one shard, and its workers."""

    home: Path
    url: str
    job: CheckpointManifest
    hosts: dict[str, str]
    """queue -> the host it pretends to be on; empty: this one"""
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, queue: str) -> None:
        env = environment(self.url)
        if host := self.hosts[queue]:
            epoch = str(time.time() - time.monotonic())
            env |= {"CHAOS_HOST": host, "CHAOS_KILL_POINTS": str(self.home), "CHAOS_EPOCH": epoch}
            env["CHAOS_EVENTS"] = str(self.home / f"{queue}.jsonl")
            env["PYTHONPATH"] = f"{KILL_POINTS}{os.pathsep}{ROOT}"
        self.processes[queue] = spawn(worker_command(queue), log=self.home / f"{queue}.log", env=env)

    def holder(self) -> str | None:
        """The queue of the worker that holds the shard."""
        status = self.job.shard_status(0)
        owner = Owner.decode(status.owner) if status else None
        return owner.worker.partition("@")[0] if owner else None

    def events(self, since: float) -> list[Event]:
        """What the workers logged after a moment, in order."""
        found = []
        for queue in self.processes:
            for line in (self.home / f"{queue}.log").read_text(errors="replace").splitlines():
                if stamped := LINE.match(line):
                    at = datetime.fromisoformat(stamped[1]).timestamp() + int(stamped[2]) / 1000
                    found.append(Event(at, queue, stamped[3]))
        return sorted((event for event in found if event.at > since), key=lambda event: event.at)

    def commit_after(self, since: float) -> Event | None:
        wanted = f"committed job={self.job.job_id} shard=0 "
        return next((event for event in self.events(since) if event.text.startswith(wanted)), None)

    def kill(self, queue: str) -> None:
        kill_session(self.processes[queue].pid)
        self.processes[queue].wait()

    def stop(self) -> None:
        for queue in self.processes:
            self.kill(queue)


def environment(url: str) -> dict[str, str]:
    """Nothing set but the server, and the user's home left alone: the defaults are what is measured."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}
    return {**kept, "HOLDFAST_BROKER_URL": url, "HOLDFAST_STATE": "", "PYTHONPATH": str(ROOT)}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=20)
    arguments.add_argument("--model", default="mock:16,delay_ms=200")
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--report", type=Path, help="write the table there, as markdown")
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="holdfast-takeover-") as scratch:
        rows = measure(Path(scratch), chosen.model, chosen.rounds, random.Random(chosen.seed))
    show(rows)
    if chosen.report:
        chosen.report.write_text(as_markdown(rows, chosen.model))


COLUMNS = ("whole worker killed", "kills", "median s", "p95 s", "most s", "own median", "own p95", "asked")


def measure(home: Path, model: str, rounds: int, rng: random.Random) -> list[tuple[str, ...]]:
    server = EmbeddedServer(JobDir(home / "server"), ProcessFile(home / "processes.json"))
    server.start()
    try:
        assert server.address is not None
        url = server.address.url
        with (
            stock(home / "stock", url, 1, None) as default,
            stock(home / "tuned", url, 2, TUNED_TIMEOUT_SECONDS) as tuned,
        ):
            here = {"cpu0": "", "cpu1": ""}
            idle = takeovers(home / "idle", url, model, rounds, rng, here)
            restarted = takeovers(home / "restarted", url, model, rounds, rng, {"cpu0": ""})
            apart = {"cpu0": "host-a", "cpu1": "host-b"}
            elsewhere = takeovers(home / "elsewhere", url, model, rounds, rng, apart)
            return [
                row("Holdfast: same host, idle worker", idle, "own p95 <= 10"),
                row("Holdfast: same host, restarted worker", restarted, "own p95 <= 10"),
                row("Holdfast: idle worker on another host", elsewhere, "own p95 <= 25"),
                stock_row(f"Celery by hand, timeout {TUNED_TIMEOUT_SECONDS} s, idle worker", tuned),
                stock_row("Celery by hand, default timeout, idle worker", default),
            ]
    finally:
        server.stop()


# ---- Holdfast


def takeovers(
    home: Path, url: str, model: str, rounds: int, rng: random.Random, hosts: dict[str, str]
) -> list[Takeover]:
    """Kill the holder of one long shard again and again."""
    home.mkdir()
    scene = Scene(home, url, submit(home, url, model, list(hosts)), hosts)
    try:
        for queue in hosts:
            scene.start(queue)
        return [takeover(scene, rng) for _ in range(rounds)]
    finally:
        scene.stop()
        scene.job.forget()


def submit(home: Path, url: str, model: str, queues: list[str]) -> CheckpointManifest:
    """A job of a single shard that takes far longer than the measurement."""
    fasta = write_fasta(home / "proteins.fasta", 20_000)
    output = str(home / "out.npy")
    command = [
        sys.executable, "-m", "queue_app.cli.main", "enqueue", str(fasta), "-m", model, "-o", output,
        "--queues", queues[0], "--shards", "1", "--toks-per-batch", "512",
    ]  # fmt: skip
    subprocess.run(command, env=environment(url), check=True, capture_output=True)
    return CheckpointManifest(connect(url), JobDir(home / "out.npy.holdfast").load().job_id)


def takeover(scene: Scene, rng: random.Random) -> Takeover:
    since = time.time()
    wait_for(lambda: scene.commit_after(since), "a commit", seconds=PATIENCE_SECONDS)
    time.sleep(rng.uniform(0, 3))
    holder = scene.holder()
    assert holder is not None
    scene.kill(holder)
    killed = time.time()
    if len(scene.processes) == 1:
        time.sleep(RESTART_SECONDS)
        scene.start(holder)
    commit = wait_for(lambda: scene.commit_after(killed), "a take-over", seconds=PATIENCE_SECONDS)
    if len(scene.processes) > 1:
        scene.start(holder)
        wait_for(lambda: ready(scene, holder, killed), "a restart")
    return Takeover(commit.at - killed, loaded(scene, commit.worker, killed) or 0.0)


def loaded(scene: Scene, queue: str, since: float) -> float | None:
    """How long after a moment a worker had loaded its model; None when it had one already."""
    said = (e.at - since for e in scene.events(since) if e.worker == queue and "model loaded" in e.text)
    return next(said, None)


def ready(scene: Scene, queue: str, since: float) -> float | None:
    """When a worker said that it takes messages."""
    said = (e.at for e in scene.events(since) if e.worker == queue and e.text.endswith(" ready."))
    return next(said, None)


def row(name: str, taken: list[Takeover], asked: str) -> tuple[str, ...]:
    totals, own = [each.total for each in taken], [each.own for each in taken]
    figures = (median(totals), p95(totals), max(totals), median(own), p95(own))
    return (name, str(len(taken)), *(f"{figure:.1f}" for figure in figures), asked)


def p95(seconds: list[float]) -> float:
    return quantiles(seconds, n=20, method="inclusive")[-1] if len(seconds) > 1 else seconds[0]


# ---- stock Celery


def stock_row(name: str, watched: Stock) -> tuple[str, ...]:
    seconds = watched.seconds()
    waited = time.time() - watched.killed
    said = f"{seconds:.1f}" if seconds is not None else f"not after {waited:.0f}"
    return (name, "1", said, "-", "-", "-", "-", "-")


# ---- the table


def show(rows: list[tuple[str, ...]]) -> None:
    table = Table(title="from the SIGKILL of a whole worker to the next commit of its shard")
    for number, column in enumerate(COLUMNS):
        table.add_column(column, justify="right" if number else "left")
    for cells in rows:
        table.add_row(*cells)
    console.print(table)


def as_markdown(rows: list[tuple[str, ...]], model: str) -> str:
    said = (
        f"Seconds from the SIGKILL of a whole worker to the next commit of its shard; model `{model}`, "
        "default settings (lease 15 s, commit every 2 s), two cores. Own: without the start of Python and "
        "torch and the loading of the model in the new worker."
    )
    table = map(row_of, (COLUMNS, ["---"] + ["---:"] * 7, *rows))
    return "\n".join(["# Take-over", "", said, "", *table, ""])


if __name__ == "__main__":
    main()
