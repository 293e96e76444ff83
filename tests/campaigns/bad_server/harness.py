"""The stage of a campaign: a server, one or two real workers, and a canary job that has to come home."""

import contextlib
import itertools
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import STDOUT, Popen, TimeoutExpired

import numpy as np
import redis

from queue_app.coordination import keys
from queue_app.coordination.embedded_server import EmbeddedServer
from queue_app.coordination.redis_client import connect
from queue_app.coordination.trust.key_file import write_key_file
from queue_app.host.processes import ProcessFile
from queue_app.job.directory import JobDir
from tests.support.command_runs import HOLDFAST, environment, holdfast
from tests.support.jobs_and_inputs import write_fasta
from tests.support.waiting import wait_for

CANARY_EVERY = 20
CANARY_SECONDS = 15.0
CANARY_RECORDS = 5
ENDS_WITHIN_SECONDS = 40.0


@dataclass
class Stage:
    """What a campaign may touch. `queues` are the public ones, `workers` the entries that they registered."""

    folder: Path
    url: str
    client: redis.Redis
    env: dict[str, str]
    queues: Sequence[str]
    processes: Sequence["Popen[bytes]"] = ()
    workers: Sequence[dict[str, object]] = ()
    numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def names(self) -> list[str]:
        """Those of the workers: so are their own queues called."""
        return [str(worker["name"]) for worker in self.workers]

    def log(self) -> str:
        """What the workers have said."""
        return "".join(path.read_text(errors="replace") for path in sorted(self.folder.glob("*.log")))

    def start_canary(self) -> Path:
        """Submit a job of the mock model; answers where its output will be."""
        number = next(self.numbers)
        fasta = write_fasta(self.folder / f"canary{number}.fasta", CANARY_RECORDS)
        output = self.folder / f"canary{number}.npy"
        queues = ("--queues", ",".join(self.queues))
        holdfast("enqueue", fasta, "-o", output, "-m", "mock:8", *queues, **self.env)
        return output

    def canary(self, within: float = CANARY_SECONDS) -> float:
        """Have a job done; answers in how many seconds.

        Raises:
            AssertionError: it was not, or its output is not what it should be.
        """
        begun = time.monotonic()
        output = self.start_canary()
        wait_for(output.with_name(f"{output.name}.card.json").exists, "the canary", seconds=within)
        assert np.load(output).shape == (CANARY_RECORDS, 8)
        return time.monotonic() - begun

    def replaced(self) -> list[str]:
        """The workers whose processes are not those that began, children among them: by name."""
        found = {str(entry["name"]): entry for entry in _entries(self.client)}
        same = ("pid", "child_pid")
        return [
            name
            for name, known in zip(self.names, self.workers, strict=True)
            if any(found.get(name, {}).get(part) != known[part] for part in same)
        ]

    def dead(self) -> list[int]:
        """The processes of workers that have ended."""
        return [process.pid for process in self.processes if process.poll() is not None]


@contextlib.contextmanager
def stage(folder: Path, *, num_workers: int = 1, with_key: bool = False, **settings: str) -> Iterator[Stage]:
    """A server and its workers in `folder`; with a key the workers and the canary's producer share it."""
    folder.mkdir(parents=True, exist_ok=True)
    server = EmbeddedServer(JobDir(folder), ProcessFile(folder / "processes.json"))
    server.start()
    try:
        assert server.address is not None
        env = {
            "HOLDFAST_BROKER_URL": server.address.url,
            "HOLDFAST_PRELOAD_TORCH": "0",
            "HOLDFAST_RESEND_SECONDS": "2",
            "HOLDFAST_RETRY_SECONDS": "1",
            "HOLDFAST_ROOTS": str(folder),
            "XDG_STATE_HOME": str(folder / "state"),
            **settings,
        }
        if with_key:
            write_key_file(folder / "fleet.key")
            env["HOLDFAST_KEY_FILE"] = str(folder / "fleet.key")
        client = connect(server.address.url)
        made = Stage(folder, server.address.url, client, env, [f"cpu{n}" for n in range(num_workers)])
        with workers(made):
            yield made
    finally:
        server.stop()


@contextlib.contextmanager
def workers(made: Stage) -> Iterator[None]:
    """One for each queue of the stage, each in a process group of its own, all ended afterwards."""
    with contextlib.ExitStack() as stack:
        made.processes = [stack.enter_context(worker(made, queue)) for queue in made.queues]
        wait_for(lambda: len(_entries(made.client)) == len(made.queues), "the workers")
        made.workers = _entries(made.client)
        yield


@contextlib.contextmanager
def worker(made: Stage, queue: str) -> Iterator["Popen[bytes]"]:
    """As an operator starts one: its supervisor stays in front of it."""
    with (made.folder / f"{queue}.log").open("ab") as log:
        process = Popen(
            [*HOLDFAST, "worker", queue], stdout=log, stderr=STDOUT, env=environment(**made.env),
            start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutExpired):
            process.wait(timeout=ENDS_WITHIN_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _entries(client: redis.Redis) -> list[dict[str, object]]:
    """What registered workers say of themselves, once their children are up."""
    entries = [json.loads(text) for text in client.hvals(keys.WORKERS)]  # type: ignore[union-attr]
    return [entry for entry in entries if entry["child_pid"]]


@dataclass
class Report:
    """What a campaign saw, by kind of what was written."""

    written: Counter[str] = field(default_factory=Counter)
    canaries: list[float] = field(default_factory=list)
    """Seconds of each."""
    broken: list[str] = field(default_factory=list)
    """The promises that broke, in words."""

    def add(self, other: "Report") -> None:
        self.written += other.written
        self.canaries += other.canaries
        self.broken += other.broken

    def text(self, title: str) -> str:
        """A table, the worst canary, and what broke."""
        width = max((len(kind) for kind in self.written), default=4)
        lines = [f"{title}: {self.written.total()} written"]
        lines += [f"  {kind:{width}}  {number:6}" for kind, number in sorted(self.written.items())]
        if self.canaries:
            lines.append(f"  {len(self.canaries)} canaries, the slowest took {max(self.canaries):.1f} s")
        lines += [f"  BROKEN: {what}" for what in self.broken]
        return "\n".join(lines)


def with_canaries(made: Stage, report: Report, every: int = CANARY_EVERY) -> Iterator[None]:
    """Hands out one turn after the other for the campaign to write in; the canary flies after every few.

    A canary that died is written down with what was written before it, and the campaign goes on.
    """
    before = report.written.copy()
    for turn in itertools.count(1):
        yield
        if turn % every:
            continue
        since, before = report.written - before, report.written.copy()
        try:
            report.canaries.append(made.canary())
        except AssertionError as error:
            report.broken.append(f"{error} after {dict(since)}")
        if replaced := made.replaced():
            report.broken.append(f"{', '.join(replaced)} replaced after {dict(since)}")


if __name__ == "__main__":  # a look at the stage itself
    with stage(Path(sys.argv[1])) as looked_at:
        print(f"{looked_at.canary():.1f} s", looked_at.names, looked_at.replaced())
