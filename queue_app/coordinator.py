"""`holdfast embed`: the whole job on this machine, and the supervisor of its processes.

The coordinator owns no state of the job: whatever it was doing when it died, the next run finds the
job directory as it is and goes on.
"""

import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import redis

from queue_app.broker import TRANSIENT, check, connect
from queue_app.celery_app import make_app
from queue_app.errors import DiskFull, HoldfastError, JobFailed, UsageError
from queue_app.export import ExportReport, check_output, export
from queue_app.job import Job, JobDir, RunOptions
from queue_app.lock import job_directory
from queue_app.manifest import CheckpointManifest, JobState
from queue_app.monitor import Snapshot, snapshot
from queue_app.processes import ProcessFile, kill_session, spawn
from queue_app.producer import Prepared, announce, prepare
from queue_app.recovery import finished_shards
from queue_app.request import EmbedRequest, device_class
from queue_app.server import EmbeddedServer
from queue_app.settings import RuntimeConfig

log = logging.getLogger(__name__)

POLL_SECONDS = 0.25
QUICK_DEATH_SECONDS = 20.0
QUICK_DEATHS_MOST = 3
IDLE_GRACE_SECONDS = 5.0


class View(Protocol):
    """Where a run shows itself: a terminal's live display, or plain lines."""

    def say(self, text: str) -> None:
        """One line about a step."""

    def update(self, now: Snapshot) -> None:
        """The job as it stands; called a few times a second."""


@dataclass(slots=True)
class _Worker:
    queue: str
    process: subprocess.Popen[bytes]
    started: float
    quick_deaths: int = 0

    def is_dead(self) -> bool:
        return self.process.poll() is not None


class GPUProcessCoordinator:
    """Starts one worker process per queue, restarts those that die, and ends them all."""

    def __init__(
        self, queues: Sequence[str], env: Mapping[str, str], logs: Path | None, processes: ProcessFile
    ) -> None:
        self.queues = list(queues)
        self.env = dict(env)
        self.logs = logs
        self.processes = processes
        self._workers: dict[str, _Worker] = {}

    def start(self) -> None:
        if self.logs is not None:
            self.logs.mkdir(parents=True, exist_ok=True)
        for queue in self.queues:
            self._workers[queue] = _Worker(queue, self._spawn(queue), time.monotonic())

    def _spawn(self, queue: str) -> subprocess.Popen[bytes]:
        process = spawn(worker_command(queue), log=self.log_of(queue), env=self.env)
        self.processes.record(queue, process.pid)
        return process

    def log_of(self, queue: str) -> Path | None:
        """None: the workers write to our own output."""
        return None if self.logs is None else self.logs / f"{queue}.log"

    def restart_dead(self) -> list[str]:
        """Start again what died since the last call; answers a line about each.

        A worker that dies again and again right after its start is left out: its shards go to others.

        Raises:
            HoldfastError: none is left; says why the last one died.
        """
        return [self._restart(worker) for worker in list(self._workers.values()) if worker.is_dead()]

    def _restart(self, worker: _Worker) -> str:
        kill_session(worker.process.pid)
        quick = time.monotonic() - worker.started < QUICK_DEATH_SECONDS
        killed = worker.process.returncode == -signal.SIGKILL  # from outside: no fault of its own
        worker.quick_deaths = worker.quick_deaths + 1 if quick and not killed else 0
        if worker.quick_deaths < QUICK_DEATHS_MOST:
            worker.process, worker.started = self._spawn(worker.queue), time.monotonic()
            return f"worker {worker.queue} died and was started again"
        del self._workers[worker.queue]
        why = f"worker {worker.queue} does not stay up: {last_words(self.log_of(worker.queue))}"
        if not self._workers:
            raise HoldfastError(why)
        return f"{why}; it is left out"

    def stop(self, *, grace_seconds: float) -> None:
        """SIGTERM to all at once, so that each can commit and give back its shard; then SIGKILL."""
        for worker in self._workers.values():
            if worker.process.poll() is None:
                worker.process.terminate()
        deadline = time.monotonic() + grace_seconds
        try:
            for worker in self._workers.values():
                _wait_until(worker.process, deadline)
        finally:
            for worker in self._workers.values():
                kill_session(worker.process.pid)
                worker.process.wait()
            self._workers.clear()


def worker_command(queue: str) -> list[str]:
    """The command of one worker. Gossip and mingle would only slow its start."""
    celery = [sys.executable, "-m", "celery", "-A", "queue_app", "worker", "-Q", queue]
    return [*celery, "--without-gossip", "--without-mingle", "--loglevel", "INFO"]


def _wait_until(process: subprocess.Popen[bytes], deadline: float) -> None:
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        log.warning("process %d does not end in time", process.pid)


def last_words(log: Path | None) -> str:
    """Why a worker died, by its own log: its last critical message, else its last line."""
    lines = log.read_text(errors="replace").strip().splitlines() if log and log.exists() else []
    said = [line for line in lines if "CRITICAL" in line] or lines or ["it wrote no log"]
    return said[-1].rpartition("] ")[2].strip()


@dataclass(frozen=True, slots=True)
class LocalRun:
    """One job to be run on this machine.

    `prepare` finds or makes the job; it gets the client once there is one. `broker_url` None means the
    embedded server. `settings` are passed to the workers in their environment.
    """

    job_dir: JobDir
    prepare: Callable[[redis.Redis | None], Prepared]
    output: Path
    queues: Sequence[str]
    broker_url: str | None
    config: RuntimeConfig
    settings: Mapping[str, str]
    overwrite: bool = False


def embed(
    request: EmbedRequest,
    *,
    queues: Sequence[str],
    threads: int,
    broker_url: str | None,
    config: RuntimeConfig,
    view: View,
) -> ExportReport:
    """The whole job: server, workers, producer, watching, export. Run again it goes on where it was.

    `threads` is what each CPU worker of a new job gets; a job that is there keeps its own.

    Raises:
        UsageError: bad input, model or option; a job directory made for it is gone again.
        JobFailed: shards were given up; what is done stays, and the same command tries them again.
        KeyboardInterrupt: after the workers committed what they had.
    """
    check_output(request.output)
    job_dir = request.directory
    kind = device_class(queues)
    run = LocalRun(
        job_dir=job_dir,
        prepare=lambda client: prepare(request, client=client, device_class=kind, threads=threads),
        output=request.output,
        queues=queues,
        broker_url=broker_url,
        config=config,
        settings=_worker_settings(request.model, request.run),
        overwrite=request.overwrite,
    )
    return _run_alone(run, view)


def resume(
    job_dir: JobDir, *, queues: Sequence[str], broker_url: str | None, config: RuntimeConfig, view: View
) -> ExportReport:
    """Go on with a job from its directory alone. Raises as `embed` does."""
    job = job_dir.load()
    if device_class(queues) != job.options.device_class:
        raise UsageError(f"{job_dir.path}: this job was planned for {job.options.device_class} workers")
    run = LocalRun(
        job_dir=job_dir,
        prepare=lambda _: Prepared(job, job_dir, created=False),
        output=Path(job.output),
        queues=queues,
        broker_url=broker_url,
        config=config,
        settings=_worker_settings(job.model.path, job.run),
    )
    return _run_alone(run, view)


def _worker_settings(model: str, options: RunOptions) -> dict[str, str]:
    return {
        "HOLDFAST_PARENT_PID": str(os.getpid()),
        "HOLDFAST_PRELOAD_TORCH": str(int(not model.startswith("mock:"))),
        "HOLDFAST_COMMIT_SECONDS": str(options.commit_seconds),
        "HOLDFAST_COMMIT_SEQUENCES": str(options.commit_sequences),
        "HOLDFAST_KEEP_CHECKPOINTS": str(int(options.keep_checkpoints)),
    }


def _run_alone(run: LocalRun, view: View) -> ExportReport:
    with job_directory(run.job_dir):
        processes = ProcessFile(run.job_dir.path / "processes.json")
        for name in processes.end_leftovers():
            view.say(f"ended {name}, left over from an earlier run")
        there = run.prepare(None) if run.job_dir.job_json.exists() and not run.overwrite else None
        if there and len(finished_shards(there.job, run.job_dir)) == len(there.job.shards):
            view.say(f"job {there.job.job_id}: all {len(there.job.shards)} shards are done already")
            return export(there.job, run.job_dir, run.output)
        return _run_with_server(run, there, processes, view)


def _run_with_server(
    run: LocalRun, there: Prepared | None, processes: ProcessFile, view: View
) -> ExportReport:
    server = EmbeddedServer(run.job_dir, processes) if run.broker_url is None else None
    try:
        url = server.start().url if server else str(run.broker_url)
        client = connect(url)
        check(client, url)
        if server:
            # Messages of an earlier run may name queues that have no worker now, or a shard twice.
            client.delete("", *client.scan_iter("?pu[0-9]*", _type="list"))
        roots = str(run.job_dir.path)
        env = {**os.environ, **run.settings, "HOLDFAST_BROKER_URL": url, "HOLDFAST_ROOTS": roots}
        workers = GPUProcessCoordinator(run.queues, env, run.job_dir.logs, processes)
        return _run_job(run, there, url, client, workers, server, view)
    except redis.ResponseError as error:
        if not str(error).startswith("MISCONF"):
            raise
        raise DiskFull(f"the server cannot write its data ({error}); free room, run the same again") from None
    finally:
        if server:
            server.stop()


def _run_job(
    run: LocalRun,
    there: Prepared | None,
    url: str,
    client: redis.Redis,
    workers: GPUProcessCoordinator,
    server: EmbeddedServer | None,
    view: View,
) -> ExportReport:
    grace = run.config.grace_seconds
    try:
        workers.start()  # they come up while the input is read
        prepared = there or run.prepare(client)
        _begin(client, url, prepared, run.queues, view)
        _watch(client, prepared.job, workers, server, run.config, view)
        grace = IDLE_GRACE_SECONDS
        return export(prepared.job, prepared.job_dir, run.output)
    except KeyboardInterrupt:
        view.say("stopping: each worker ends its batch and commits; Ctrl-C again leaves at once")
        raise
    finally:
        workers.stop(grace_seconds=grace)


def run_workers(queues: Sequence[str], url: str, config: RuntimeConfig) -> None:
    """`holdfast worker gpu0 gpu1`: one worker each, restarted when they die, until SIGTERM or Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="holdfast-workers-") as scratch:
        env = {**os.environ, "HOLDFAST_BROKER_URL": url, "HOLDFAST_PARENT_PID": str(os.getpid())}
        workers = GPUProcessCoordinator(queues, env, None, ProcessFile(Path(scratch) / "processes.json"))
        try:
            workers.start()
            while True:
                for line in workers.restart_dead():
                    print(line, file=sys.stderr)
                time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            print("shutting down: each worker ends its batch and commits", file=sys.stderr)
        finally:
            workers.stop(grace_seconds=config.grace_seconds)


def _begin(client: redis.Redis, url: str, prepared: Prepared, queues: Sequence[str], view: View) -> None:
    job = prepared.job
    sent = announce(client, make_app(url), prepared, queues, resend_all=True)
    CheckpointManifest(client, job.job_id).set_exporter("coordinator")
    what = "submitted" if prepared.created else "resumed"
    view.say(
        f"job {job.job_id} {what}: {job.counts.num_records:,} sequences in {len(job.shards)} shards, "
        f"{sent} to do, on {', '.join(queues)}"
    )


def _watch(
    client: redis.Redis,
    job: Job,
    workers: GPUProcessCoordinator,
    server: EmbeddedServer | None,
    config: RuntimeConfig,
    view: View,
) -> None:
    """Until the job has ended: keep server and workers up, and show how far it is."""
    while True:
        if server and not server.is_running():
            server.start()
            view.say("the embedded server died and was started again on its data")
        for line in workers.restart_dead():
            view.say(line)
        now = _look(client, job.job_id, config)
        if now is not None:
            view.update(now)
            if now.ended:
                return _raise_unless_done(client, job, now)
        time.sleep(POLL_SECONDS)


def _look(client: redis.Redis, job_id: str, config: RuntimeConfig) -> Snapshot | None:
    try:
        return snapshot(client, job_id, lease_seconds=config.lease_seconds)
    except TRANSIENT as error:
        log.warning("the server is away: %s", error)
        return None


def _raise_unless_done(client: redis.Redis, job: Job, now: Snapshot) -> None:
    if now.state is JobState.CANCELLED:
        raise JobFailed(f"job {job.job_id} was cancelled; the same command, or holdfast resume, goes on")
    if now.state is JobState.FAILED:
        statuses = CheckpointManifest(client, job.job_id).shard_statuses(shard.index for shard in job.shards)
        failed = [status for status in statuses if status.state == "failed"]
        reason = failed[0].error if failed else "unknown"
        raise JobFailed(
            f"job {job.job_id}: {len(failed)} shard(s) were given up, shard {failed[0].index}: {reason}; "
            "the same command tries them again"
        )
