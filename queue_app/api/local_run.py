"""`holdfast embed` and `resume`: one job, run to its end on this machine.

It owns no state of the job: whatever it was doing when it died, the next run finds the job directory as it
is and goes on.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import redis

from queue_app.celery_app import make_app
from queue_app.coordination import keys
from queue_app.coordination.embedded_server import EmbeddedServer
from queue_app.coordination.events import EventKind, publish
from queue_app.coordination.manifest import CheckpointManifest, forgetting
from queue_app.coordination.redis_client import TRANSIENT, check, connect
from queue_app.coordination.shard_messages import announce
from queue_app.coordination.states import JobState
from queue_app.errors import DiskFull, HoldfastError, JobFailed, UsageError
from queue_app.host.devices import cpu_workers_of, default_cpu_workers, is_emulated
from queue_app.host.memory import give_memory_back
from queue_app.host.processes import ProcessFile
from queue_app.host.surroundings import child_environment
from queue_app.ingest.prepare import Prepared, prepare
from queue_app.ingest.readers.formats import readings
from queue_app.ingest.request import EmbedRequest, check_request, device_class
from queue_app.job.directory import JobDir, locked_job_directory
from queue_app.job.disk_space import require_local_disk, require_room
from queue_app.job.done_records import finished_shards
from queue_app.job.history import CommandLog
from queue_app.job.model_place import find_again
from queue_app.job.output_place import check_output, forget_other_place, output_of, refuse_foreign, take_place
from queue_app.job.spec import H5Layout, Job, RunOptions
from queue_app.model.spec import FoundModel
from queue_app.model.wording import model_line, written
from queue_app.outputs.export import ExportReport, export
from queue_app.settings import RuntimeConfig
from queue_app.status.snapshot import Snapshot, snapshot_of_directory
from queue_app.status.view import View
from queue_app.status.watch import Lookout
from queue_app.wording import count
from queue_app.worker.metrics.ports import describe, environment, require_ports
from queue_app.worker.supervisor import POLL_SECONDS, GPUProcessCoordinator

IDLE_GRACE_SECONDS = 5.0
REST_WITHIN_SECONDS = 1.0


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
    view: View
    overwrite: bool = False
    h5_layout: H5Layout | None = None
    """None: as the job was submitted with."""


@dataclass(frozen=True, slots=True)
class _Machinery:
    """What has to be up while the job runs. `server` is None when it is not ours to keep up."""

    url: str
    client: redis.Redis
    server: EmbeddedServer | None
    workers: GPUProcessCoordinator


def cpu_workers(request: EmbedRequest, model: FoundModel) -> int:
    """How many CPU workers a job has unless a number is asked for: one that is there keeps its threads."""
    job = None if request.overwrite else request.directory.load_or_none()
    return cpu_workers_of(job.threads) if job else default_cpu_workers(model.spec.num_parameters)


def embed(
    request: EmbedRequest,
    model: FoundModel,
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
        UsageError: bad input, model or option, or checkpoints would lie on a network file system; a job
            directory made for it is gone again.
        JobFailed: shards were given up; what is done stays, and the same command tries them again.
        KeyboardInterrupt: after the workers committed what they had.
    """
    check_request(request)
    job_dir = request.directory
    kind = device_class(queues)
    run = LocalRun(
        job_dir=job_dir,
        prepare=lambda client: prepare(
            request,
            model,
            device_class=kind,
            threads=threads,
            forget_keys=None if client is None else forgetting(client),
        ),
        output=request.output,
        queues=queues,
        broker_url=broker_url,
        config=config,
        settings=_worker_settings(request.model, request.run),
        view=view,
        overwrite=request.overwrite,
        h5_layout=request.run.h5_layout,
    )
    return _run_alone(run)


def resume(
    job_dir: JobDir,
    *,
    queues: Sequence[str],
    broker_url: str | None,
    config: RuntimeConfig,
    view: View,
    output: Path | None = None,
    model: str | None = None,
) -> ExportReport:
    """Go on with a job from its directory alone. Raises as `embed` does.

    `output` None: where it was to go. `model` is where the job's model lies now, if it has moved.
    """
    job = job_dir.load()
    output = output or output_of(job, job_dir)
    check_output(output)
    refuse_foreign(output, job_dir, job.job_id)
    if device_class(queues) != job.options.device_class:
        raise UsageError(f"{job_dir.path}: this job was planned for {job.options.device_class} workers")
    run = LocalRun(
        job_dir=job_dir,
        prepare=lambda _: _go_on(job, job_dir, model),
        output=output,
        queues=queues,
        broker_url=broker_url,
        config=config,
        settings=_worker_settings(job.model.path, job.run),
        view=view,
    )
    return _run_alone(run)


def _go_on(job: Job, job_dir: JobDir, model: str | None) -> Prepared:
    """Once the model was looked for, where anything is left to compute with it."""
    if model is not None or not _is_finished(job, job_dir):
        find_again(job, job_dir, model)
    return Prepared(job, job_dir, created=False)


def _is_finished(job: Job, job_dir: JobDir, *, remove_damaged: bool = False) -> bool:
    return len(finished_shards(job, job_dir, remove_damaged=remove_damaged)) == len(job.shards)


def _worker_settings(model: str, options: RunOptions) -> dict[str, str]:
    return {
        "HOLDFAST_PARENT_PID": str(os.getpid()),
        "HOLDFAST_PRELOAD_TORCH": str(int(not model.startswith("mock:"))),
        "HOLDFAST_COMMIT_SECONDS": str(options.commit_seconds),
        "HOLDFAST_COMMIT_SEQUENCES": str(options.commit_sequences),
        "HOLDFAST_KEEP_CHECKPOINTS": str(int(options.keep_checkpoints)),
        "HOLDFAST_ALLOW_SAME_VECTORS": str(int(options.allow_same_vectors)),
    }


def _run_alone(run: LocalRun) -> ExportReport:
    with locked_job_directory(run.job_dir):
        forget_other_place(run.job_dir)
        pids = ProcessFile(run.job_dir.path / "processes.json")
        for name in pids.end_leftovers():
            run.view.say(f"ended {name}, left over from an earlier run")
        there = run.prepare(None) if run.job_dir.job_json.exists() and not run.overwrite else None
        if there and _is_finished(there.job, run.job_dir, remove_damaged=True):
            run.view.say(f"job {there.job.job_id}: all {len(there.job.shards)} shards are done already")
            take_place(run.job_dir, run.output)
            return export(there.job, run.job_dir, run.output, h5_layout=run.h5_layout)
        require_local_disk(run.config.scratch or run.job_dir.path)
        require_ports(run.queues, run.config)
        if served := describe(run.queues, run.config):
            run.view.say(served)
        return _run_with_server(run, there, pids)


def _run_with_server(run: LocalRun, there: Prepared | None, pids: ProcessFile) -> ExportReport:
    server = EmbeddedServer(run.job_dir, pids) if run.broker_url is None else None
    try:
        url = server.start().url if server else str(run.broker_url)
        client = connect(url)
        check(client, url)
        if server:
            # Messages of an earlier run may name queues that have no worker now, or a shard twice.
            client.delete("", *client.scan_iter("?pu[0-9]*", _type="list"))
        roots = str(run.job_dir.path)
        settings = {**run.settings, "HOLDFAST_BROKER_URL": url, "HOLDFAST_ROOTS": roots}
        env = child_environment(**settings, **environment(run.config))
        workers = GPUProcessCoordinator(run.queues, env, run.job_dir.logs, pids)
        return _run_with_workers(run, there, _Machinery(url, client, server, workers))
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


def _run_with_workers(run: LocalRun, there: Prepared | None, machinery: _Machinery) -> ExportReport:
    grace = run.config.grace_seconds
    prepared = there
    try:
        machinery.workers.start()  # they come up while the input is read
        prepared = prepared or run.prepare(machinery.client)
        take_place(run.job_dir, run.output)
        for line in readings(prepared.job.inputs):
            run.view.say(line)
        for note in prepared.job.notes:
            run.view.say(f"note: {note}")
        give_memory_back()  # what reading took; for hours nothing here needs as much
        _submit(run, prepared, machinery)
        _watch(run, prepared.job, machinery)
        # The export comes after the workers, so that it need not find room in memory beside them.
        machinery.workers.stop(grace_seconds=_grace_of_idle(machinery))
        return export(prepared.job, run.job_dir, run.output, h5_layout=run.h5_layout, overwrite=run.overwrite)
    except KeyboardInterrupt:
        run.view.say("stopping: each worker ends its batch and commits; Ctrl-C again leaves at once")
        machinery.workers.stop(grace_seconds=grace)
        if prepared is not None:
            with contextlib.suppress(HoldfastError, OSError):  # the last picture is no reason to fail
                run.view.update(snapshot_of_directory(prepared.job, prepared.job_dir, run.config.scratch))
        raise
    finally:
        machinery.workers.stop(grace_seconds=grace)


def _grace_of_idle(machinery: _Machinery) -> float:
    """Once the job is done: leaving takes Celery 2 s, of which a server that ends with us has no use."""
    deadline = time.monotonic() + REST_WITHIN_SECONDS
    while machinery.server and time.monotonic() < deadline:
        if _at_rest(machinery.client):
            return 0.0
        time.sleep(POLL_SECONDS / 10)
    return IDLE_GRACE_SECONDS


def _at_rest(client: redis.Redis) -> bool:
    """True when every message was acknowledged: nobody has anything in hand any more."""
    try:
        return next(iter(client.scan_iter(keys.unacked("*")["unacked_key"])), None) is None
    except TRANSIENT:
        return False


def _submit(run: LocalRun, prepared: Prepared, machinery: _Machinery) -> None:
    job, job_dir = prepared.job, prepared.job_dir
    require_room(job, job_dir, run.config, num_workers=len(run.queues))
    sent = announce(machinery.client, make_app(machinery.url), job, job_dir, run.queues, resend_all=True)
    CheckpointManifest(machinery.client, job.job_id).set_exporter("coordinator")
    what = "submitted" if prepared.created else "resumed"
    run.view.say(
        f"job {job.job_id} {what}: {job.counts.num_records:,} sequences{_spared(job)} "
        f"in {count(len(job.shards), 'shard')}, {sent} to do, on {', '.join(run.queues)}"
    )
    run.view.say(f"model {model_line(job.model)}: sequences {written(job.model)}")
    if job.options.device_class == "cpu" and is_emulated(job.options.dtype):
        run.view.say(f"this processor only emulates {job.options.dtype}: --dtype float32 is much faster")


def _spared(job: Job) -> str:
    """What need not be computed: ` (900 repeat others, 40 are reused from out.h5)`."""
    spared = []
    if job.twins:
        spared.append(f"{job.twins.num_twins:,} repeat others")
    if job.reuse:
        spared.append(f"{job.reuse.num_vectors:,} are reused from {job.reuse.path}")
    return f" ({', '.join(spared)})" if spared else ""


def _watch(run: LocalRun, job: Job, machinery: _Machinery) -> None:
    """Until the job has ended: show how far it is, and keep server and workers up."""
    history = CommandLog(run.job_dir)
    # Of a server of our own its restart is told.
    say = run.view.say if machinery.server is None else None
    lookout = Lookout(machinery.client, job.job_id, run.config.lease_seconds, say)
    while True:
        now = lookout.look()
        if now is not None:
            run.view.update(now)
            if now.ended:
                return _raise_unless_done(machinery.client, job, now)
        for kind, text in _keep_up(machinery, history):
            _tell(run, job, machinery, kind, text)
        time.sleep(POLL_SECONDS)


def _keep_up(machinery: _Machinery, history: CommandLog) -> Iterator[tuple[EventKind, str]]:
    """Start again what died, and say so."""
    if machinery.server and not machinery.server.is_running():
        machinery.server.start()
        history.server_died()
        yield EventKind.SERVER, "the embedded server died and was started again on its data"
    for line in machinery.workers.restart_dead():
        history.worker_died()
        yield EventKind.WORKER, line


def _tell(run: LocalRun, job: Job, machinery: _Machinery, kind: EventKind, text: str) -> None:
    """To everyone who watches the job; the view shows it with the job's next snapshot."""
    try:
        publish(machinery.client, job.job_id, kind, text)
    except TRANSIENT:
        run.view.say(text)


def _raise_unless_done(client: redis.Redis, job: Job, now: Snapshot) -> None:
    if now.state is JobState.CANCELLED:
        raise JobFailed(f"job {job.job_id} was cancelled; the same command, or holdfast resume, goes on")
    if now.state is JobState.FAILED:
        statuses = CheckpointManifest(client, job.job_id).shard_statuses(shard.index for shard in job.shards)
        failed = [status for status in statuses if status.state == "failed"]
        first = f", shard {failed[0].index}: {failed[0].error}" if failed else ""
        raise JobFailed(
            f"job {job.job_id}: {len(failed)} shard(s) were given up{first}; "
            "the same command tries them again"
        )
