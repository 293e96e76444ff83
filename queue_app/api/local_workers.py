"""The server and the workers that run a job on this machine: begun, given their messages, kept up, ended."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import redis

from queue_app.celery_app import make_app
from queue_app.coordination import keys
from queue_app.coordination.embedded_server import EmbeddedServer, key_file_of
from queue_app.coordination.events import EventKind
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.messages import announce
from queue_app.coordination.redis_client import TRANSIENT, check, connect, open_to_writers
from queue_app.errors import DiskFull, HoldfastError
from queue_app.host.processes import ProcessFile
from queue_app.host.queues import KEY_PATTERN
from queue_app.host.surroundings import child_environment
from queue_app.job.directory import JobDir
from queue_app.job.disk_space import require_local_disk, require_room
from queue_app.job.spec import Job, RunOptions
from queue_app.settings import RuntimeConfig
from queue_app.status.view import View
from queue_app.worker.metrics.ports import describe, environment, require_ports
from queue_app.worker.supervisor import POLL_SECONDS, GPUProcessCoordinator

IDLE_GRACE_SECONDS = 5.0
REST_WITHIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class LocalSetup:
    """How a job is run on this machine. `broker_url` None: by a server of our own."""

    queues: Sequence[str]
    broker_url: str | None
    config: RuntimeConfig
    view: View


@contextmanager
def local_workers(
    job_dir: JobDir, setup: LocalSetup, settings: Mapping[str, str]
) -> Iterator["LocalWorkers"]:
    """A worker for each queue, and the server; all ended in order.

    `settings` are passed to the workers in their environment.

    Raises:
        UsageError: checkpoints would lie on a network file system, or a port for metrics is taken.
        BrokerUnreachable: no server answers.
        DiskFull: the server has no room for its data.
    """
    queues, config = setup.queues, setup.config
    require_local_disk(config.scratch or job_dir.path)
    require_ports(queues, config)
    if served := describe(queues, config):
        setup.view.say(served)
    pids = process_file(job_dir)
    server = EmbeddedServer(job_dir, pids) if setup.broker_url is None else None
    try:
        url = server.start().url if server else str(setup.broker_url)
        client = connect(url)
        check(client, url)
        if server is None and (warning := open_to_writers(url)):
            setup.view.say(warning)
        if server:
            # Messages of an earlier run may name queues that have no worker now, or a shard twice.
            client.delete("", *client.scan_iter(KEY_PATTERN, _type="list"))
        home = {"HOLDFAST_BROKER_URL": url, "HOLDFAST_ROOTS": str(job_dir.path)}
        if server:
            home["HOLDFAST_STATE"] = ""  # its one job is all that there is to be remembered
            home["HOLDFAST_KEY_FILE"] = str(key_file_of(job_dir).absolute())
        env = dict(child_environment(**settings, **home, **environment(config)))
        env.pop("HOLDFAST_EXIT_WHEN_IDLE", None)  # they are there for this job, and wait until it is read
        processes = GPUProcessCoordinator(queues, env, job_dir.logs, pids)
        try:
            processes.start()
            yield LocalWorkers(job_dir, url, client, server, processes, config)
        finally:
            processes.stop(grace_seconds=config.grace_seconds)
    except redis.ResponseError as error:
        if "MISCONF" not in str(error):
            raise
        data = f" at {server.data}" if server else ""
        raise DiskFull(
            f"the server cannot write its data{data} ({error}); free room, or raise ulimit -f where that is "
            "set, and run the same again"
        ) from None
    finally:
        if server:
            server.stop()


def process_file(job_dir: JobDir) -> ProcessFile:
    return ProcessFile(job_dir.path / "processes.json")


def worker_settings(model: str, options: RunOptions) -> dict[str, str]:
    """What tells the workers of a run how this one is to be run."""
    return {
        "HOLDFAST_PARENT_PID": str(os.getpid()),
        "HOLDFAST_PRELOAD_TORCH": str(int(not model.startswith("mock:"))),
        "HOLDFAST_COMMIT_SECONDS": str(options.commit_seconds),
        "HOLDFAST_COMMIT_SEQUENCES": str(options.commit_sequences),
        "HOLDFAST_KEEP_CHECKPOINTS": str(int(options.keep_checkpoints)),
        "HOLDFAST_ALLOW_SAME_VECTORS": str(int(options.allow_same_vectors)),
    }


@dataclass(frozen=True, slots=True)
class LocalWorkers:
    """Workers that are up. `server` is None when it is not ours to keep up."""

    job_dir: JobDir
    url: str
    client: redis.Redis
    server: EmbeddedServer | None
    processes: GPUProcessCoordinator
    config: RuntimeConfig

    def forget_keys(self, job_id: str) -> None:
        """Of a job that is replaced."""
        CheckpointManifest(self.client, job_id).forget()

    def send(self, job: Job) -> int:
        """Give them what is left of the job; answers how many shards that are. Raises DiskFull."""
        queues = self.processes.queues
        require_room(job, self.job_dir, self.config, num_workers=len(queues))
        left = announce(self.client, make_app(self.url), job, self.job_dir, queues)
        CheckpointManifest(self.client, job.job_id).set_exporter("coordinator")
        return left

    def restart_dead(self) -> Iterator[tuple[EventKind, str]]:
        """Start again what died, and say so.

        Raises:
            HoldfastError: no worker is left; says why.
            redis.ResponseError: the server takes no change (MISCONF, its disk is full): workers wait for it.
        """
        with suppress(*TRANSIENT):
            self.client.delete(keys.NOTHING)
        if self.server and not self.server.is_running():
            self.server.start()
            yield EventKind.SERVER, "the embedded server died and was started again on its data"
        for line in self.processes.restart_dead():
            yield EventKind.WORKER, line
        if not self.processes.has_workers():
            raise HoldfastError("every worker was asked to end, and has; the same command goes on")

    def stop(self) -> None:
        """Each ends its batch and commits."""
        self.processes.stop(grace_seconds=self.config.grace_seconds)

    def stop_idle(self) -> None:
        """Once the job is done: leaving takes Celery 2 s, of which a server that ends with us has no use."""
        deadline = time.monotonic() + REST_WITHIN_SECONDS
        while self.server and time.monotonic() < deadline:
            if self._is_at_rest():
                return self.processes.stop(grace_seconds=0.0)
            time.sleep(POLL_SECONDS / 10)
        return self.processes.stop(grace_seconds=IDLE_GRACE_SECONDS)

    def _is_at_rest(self) -> bool:
        """True when every message was acknowledged: nobody has anything in hand any more."""
        try:
            return next(iter(self.client.scan_iter(keys.unacked("*")["unacked_key"])), None) is None
        except TRANSIENT:
            return False
