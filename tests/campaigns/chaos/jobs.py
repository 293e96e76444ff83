"""The jobs of a run and their producers: killed, doubled, and run again until the job is submitted."""

import json
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from queue_app.host.processes import kill_session, spawn
from queue_app.job.directory import JobDir
from queue_app.job.output_place import exported
from queue_app.job.spec import Job
from tests.campaigns.chaos.inputs import HOLDFAST, Input
from tests.campaigns.chaos.oracle import Verdict
from tests.campaigns.chaos.stage import Stage

PRODUCER_SECONDS_MOST = 60.0
KILL_WITHIN_SECONDS = 1.8
"""About as long as a producer takes, so that it is killed anywhere between its imports and its end."""
SMALL_DISK_EVERY = 3
"""One plain job in so many lies on the small disk."""


class Manner(StrEnum):
    """How a job is submitted."""

    PLAIN = "plain"
    KILLED = "producer killed while it enqueues"
    TWO_AT_ONCE = "two producers at once"


@dataclass(slots=True)
class Submission:
    """One job, from its first producer to its verdict."""

    name: str
    input: Input
    output: Path
    manner: Manner
    producers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    begun: float = 0.0
    kill_at: float | None = None
    tries: int = 0
    submitted: bool = False
    given_up: bool = False
    job: Job | None = None
    faults: list[str] = field(default_factory=list)
    verdict: Verdict | None = None
    trouble: list[str] = field(default_factory=list)

    @property
    def directory(self) -> JobDir:
        return JobDir(self.output.with_name(f"{self.output.name}.holdfast"))

    def has_ended(self) -> bool:
        return self.submitted and self.job is not None and exported(self.job, self.directory) is not None


@dataclass(slots=True)
class Jobs:
    """Every job of the run; `tick` moves the producers on."""

    stage: Stage
    inputs: Sequence[Input]
    all: list[Submission] = field(default_factory=list)

    def running(self) -> list[Submission]:
        return [each for each in self.all if each.verdict is None and not each.given_up]

    def poisoned(self) -> Input | None:
        """The input with poison in it, where there is one."""
        return next((each for each in self.inputs if each.poison), None)

    def submit_plain(self) -> Submission:
        """One in so many lies on the small disk, where there is one."""
        return self.submit(Manner.PLAIN, small_disk=len(self.all) % SMALL_DISK_EVERY == 0)

    def submit(self, manner: Manner, *, input: Input | None = None, small_disk: bool = False) -> Submission:
        rng = self.stage.rng
        name = f"job_{len(self.all):04d}"
        disk = self.stage.small_disk
        home = disk.path if disk and small_disk else self.stage.jobs
        innocent = [each for each in self.inputs if not each.poison]
        made = Submission(name, input or rng.choice(innocent), home / f"{name}.npy", manner)
        self.all.append(made)
        self.start_producer(made)
        if manner is Manner.TWO_AT_ONCE:
            self.start_producer(made)
        if manner is Manner.KILLED:
            made.kill_at = made.begun + rng.uniform(0.2, KILL_WITHIN_SECONDS)
        return made

    def start_producer(self, job: Submission) -> None:
        command = [*HOLDFAST, "enqueue", str(job.input.path), "-m", job.input.model, "-o", str(job.output)]
        options = [*self.stage.pace.options, "--queues", ",".join(self.stage.queues), "--json"]
        log = self.stage.logs / f"{job.name}.producer-{job.tries}.log"
        job.producers.append(spawn([*command, *options], log=log, env=self.stage.environment()))
        job.begun = time.monotonic()
        job.tries += 1

    def tick(self) -> None:
        for job in self.all:
            if not job.submitted:
                self._look_after(job)

    def _look_after(self, job: Submission) -> None:
        if job.kill_at is not None and time.monotonic() >= job.kill_at:
            job.producers[0].send_signal(signal.SIGKILL)
            job.kill_at = None
        if time.monotonic() - job.begun > PRODUCER_SECONDS_MOST:
            self._end_producers(job)
        if any(producer.poll() is None for producer in job.producers):
            return
        codes = [producer.returncode for producer in job.producers]
        job.producers.clear()
        job.kill_at = None
        if 0 in codes:
            self._note_submitted(job)
        else:
            self.start_producer(job)

    def _note_submitted(self, job: Submission) -> None:
        job.submitted = True
        job.job = job.directory.load()
        if self.stage.small_disk and job.output.is_relative_to(self.stage.small_disk.path):
            self.stage.on_small_disk.add(job.job.job_id)
        named = {answer["job"] for answer in self._answers(job)}
        if named != {job.job.job_id}:
            job.trouble.append(f"producers named {sorted(named)}, the directory holds {job.job.job_id}")

    def _answers(self, job: Submission) -> list[dict[str, str]]:
        logs = sorted(self.stage.logs.glob(f"{job.name}.producer-*.log"))
        lines = [line for log in logs for line in log.read_text().splitlines()]
        return [json.loads(line) for line in lines if line.startswith('{"job"')]

    def _end_producers(self, job: Submission) -> None:
        for producer in job.producers:
            kill_session(producer.pid)
            producer.wait()

    def stop(self) -> None:
        for job in self.all:
            self._end_producers(job)
