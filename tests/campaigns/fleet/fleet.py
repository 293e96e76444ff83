"""A fleet: one server, hosts with workers, one shared directory, and the jobs that are submitted to it."""

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.states import JobState
from queue_app.coordination.workers import live_workers
from queue_app.job.directory import JobDir
from queue_app.job.output_place import exported
from queue_app.job.spec import Job
from queue_app.settings import RuntimeConfig
from tests.campaigns.chaos.inputs import HOLDFAST, Input
from tests.campaigns.chaos.oracle import Verdict, judge
from tests.campaigns.fleet.host import Host, Scratch, until
from tests.campaigns.fleet.log_events import LogEvent, events_of
from tests.campaigns.fleet.namespaces import Network
from tests.campaigns.fleet.server import Server
from tests.support import ROOT
from tests.support.jobs_and_inputs import write_fasta

HOOKS = Path(__file__).resolve().parent / "hooks"
MODEL = "mock:16"
AROUND_A_RECORD = 2
"""The tokens that the mock model puts before and behind each record."""
QUICK = {
    "HOLDFAST_LEASE_SECONDS": "3",
    "HOLDFAST_BEAT_SECONDS": "0.5",
    "HOLDFAST_RECONCILE_SECONDS": "0.2",
    "HOLDFAST_RESEND_SECONDS": "3",
}
"""Short leases, where a scenario is about what happens, and not about how long it takes."""
BATCHES = ("--toks-per-batch", "512", "--commit-seconds", "0.2")
WORKERS_UP_SECONDS = 120.0
COMMAND_SECONDS = 120.0


def clean_environment(**extra: str) -> dict[str, str]:
    """Ours, without settings of Holdfast, and with the code of this checkout."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}
    always = {"PYTHONPATH": str(ROOT), "HOLDFAST_PRELOAD_TORCH": "0", "HOLDFAST_STATE": ""}
    return {**kept, **always, **extra}


def holdfast(*arguments: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, whatever that is."""
    command = [*HOLDFAST, *map(str, arguments)]
    return subprocess.run(
        command, env=clean_environment(**env), capture_output=True, text=True, timeout=COMMAND_SECONDS
    )


@dataclass(frozen=True, slots=True)
class Submission:
    """One job of a fleet. `at`: when the producer had ended, in seconds since the epoch."""

    fleet: "Fleet"
    job: Job
    input: Input
    output: Path
    at: float

    @property
    def directory(self) -> JobDir:
        return JobDir(self.output.with_name(f"{self.output.name}.holdfast"))

    @property
    def tokens(self) -> int:
        """Of all its records, with those that the model puts around each."""
        path = self.input.path
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        lines = [line for file in files for line in file.read_text().splitlines()]
        return sum(len(line) + AROUND_A_RECORD for line in lines if not line.startswith(">"))

    def seconds_taken(self) -> float:
        """From the first shard that was begun to the last that was done."""
        return self.events("done")[-1].at - self.events("computing")[0].at

    def state(self) -> JobState | None:
        """By the server; None where it does not know the job."""
        with self.fleet.server.client() as client:
            status = CheckpointManifest(client, self.job.job_id).job_status()
        return status.state if status else None

    def is_exported(self) -> bool:
        return exported(self.job, self.directory) is not None

    def has_ended(self) -> bool:
        """Well or badly."""
        return self.is_exported() or self.state() is JobState.FAILED

    def events(self, what: str | None = None) -> list[LogEvent]:
        """What the workers of the fleet logged of it, by time; of one kind or all."""
        logs = [(host.name, host.log) for host in self.fleet.hosts.values()]
        return [each for each in events_of(self.job.job_id, logs) if what in (None, each.what)]

    def num_done(self) -> int:
        """Shards that have a done record."""
        return len(list(self.directory.dones.glob("*.json")))

    def verdict(self) -> Verdict:
        """Hold the output against the undisturbed run's.

        Stores of different hosts know nothing of each other: what was lost with a host is rightly committed
        once more.
        """
        return judge(self.output, self.input, committed_twice=0)


@dataclass(slots=True)
class Fleet:
    """`settings` are those of all its workers; the shared directory may be another fleet's too."""

    home: Path
    network: Network
    shared: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    server: Server = field(init=False)
    hosts: dict[str, Host] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.server = Server(self.home / "server", self.network.server_address())

    @contextlib.contextmanager
    def running(self) -> Iterator["Fleet"]:
        self.shared.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as afterwards:
            afterwards.callback(self.server.stop)
            self.server.start()
            afterwards.callback(self._power_off)
            yield self

    def _power_off(self) -> None:
        for host in self.hosts.values():
            host.power_off()

    # ---- hosts

    def add_host(
        self,
        name: str,
        *,
        tokens_per_second: float,
        workers: int = 1,
        scratch: Scratch = Scratch.GOOD,
        shared: bool = True,
        **settings: str,
    ) -> Host:
        """A host with its workers cpu0, cpu1, … of one pace.

        The host that had the name before is gone for good. `shared`: whether the shared directory is mounted
        there.
        """
        if before := self.hosts.get(name):
            before.power_off()
        hooks = {
            "PYTHONPATH": os.pathsep.join(map(str, [HOOKS, ROOT])),
            "FLEET_TOKENS_PER_SECOND": str(tokens_per_second),
        }
        env = clean_environment(**self.settings, **self._broker(), **hooks, **settings)
        lives = len(list((self.home / "hosts").glob(f"{name}-*")))
        host = Host(
            name, self.home / "hosts" / f"{name}-{lives}", self.network, self.shared,
            [f"cpu{number}" for number in range(workers)], env, scratch,
        )  # fmt: skip
        host.start()
        self.hosts[name] = host
        if not shared:
            host.hide_shared()
        host.start_workers()
        return host

    def wait_for_workers(self) -> None:
        """Until the server has heard of every worker of every host."""
        wanted = sum(len(host.queues) for host in self.hosts.values() if host.is_on())
        if not until(lambda: self.num_workers() >= wanted, WORKERS_UP_SECONDS):
            raise RuntimeError(f"{self.num_workers()} of {wanted} workers came up: see {self.home}")

    def num_workers(self) -> int:
        with self.server.client() as client:
            return len(live_workers(client, self.lease_seconds))

    @property
    def lease_seconds(self) -> float:
        set_to = self.settings.get("HOLDFAST_LEASE_SECONDS")
        return float(set_to) if set_to else RuntimeConfig.model_construct().lease_seconds

    # ---- jobs

    def submit(self, name: str, input: Input, *options: str) -> Submission:
        """Run the producer; it is tried again as long as it does not succeed."""
        output = self.shared / f"{name}.npy"
        what: list[str | Path] = ["enqueue", input.path, "-m", input.model, "-o", output]
        said: list[str] = []

        def succeeds() -> bool:
            state = str(self.home / "state")
            ended = holdfast(*what, *BATCHES, *options, **self._broker(), HOLDFAST_STATE=state)
            said.append(ended.stderr)
            return ended.returncode == 0

        if not until(succeeds, COMMAND_SECONDS):
            raise RuntimeError(f"{name} cannot be submitted: {said[-1]}")
        job = JobDir(output.with_name(f"{output.name}.holdfast")).load()
        return Submission(self, job, input, output, time.time())

    def _broker(self) -> dict[str, str]:
        return {"HOLDFAST_BROKER_URL": self.server.url}


@dataclass(slots=True)
class Campaign:
    """What the scenarios share: the network, the inputs, and where everything lies."""

    home: Path
    network: Network
    say: Callable[[str], None]
    rounds: int = 50
    """Of the scenario with cut off holders."""
    measured: dict[str, float] = field(default_factory=dict)
    """Seconds that more than one scenario is held against."""
    _inputs: dict[tuple[int, int], Input] = field(default_factory=dict)

    @contextlib.contextmanager
    def fleet(self, name: str, settings: Mapping[str, str] | None = None) -> Iterator[Fleet]:
        """A fleet of its own, whose hosts are off again at the end."""
        home = self.home / name
        with Fleet(home, self.network, home / "shared", settings or {}).running() as fleet:
            yield fleet

    def input(self, num_records: int, files: int = 1) -> Input:
        """An input of so many records, with the output of a run that nothing happened to."""
        if (num_records, files) not in self._inputs:
            home = self.home / "undisturbed" / f"{num_records}-{files}"
            home.mkdir(parents=True)
            made = Input(_write(home, num_records, files), home / "undisturbed.npy", MODEL)
            what: Sequence[str | Path] = ["embed", made.path, "-m", MODEL, "-o", made.undisturbed, *BATCHES]
            ended = holdfast(*what, "--device", "cpu", "--workers", "1", "--quiet")
            if ended.returncode:
                raise RuntimeError(f"the undisturbed run of {made.path} failed: {ended.stderr}")
            self._inputs[num_records, files] = made
        return self._inputs[num_records, files]


def _write(home: Path, num_records: int, files: int) -> Path:
    """One file of records, or a directory of as many with about as many each."""
    whole = write_fasta(home / "whole.fasta", num_records)
    if files == 1:
        return whole
    (directory := home / "parts").mkdir()
    records = whole.read_text().split(">")[1:]
    for number in range(files):
        part = records[number * num_records // files : (number + 1) * num_records // files]
        (directory / f"{number}.fasta").write_text("".join(f">{record}" for record in part))
    return directory
