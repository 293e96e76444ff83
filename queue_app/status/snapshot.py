"""A job at a glance: one snapshot, read from the server, or from the job directory where there is none."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import redis

from queue_app.coordination import keys
from queue_app.coordination.events import Event, EventKind, read_events
from queue_app.coordination.find_job import named_directory, server_url
from queue_app.coordination.job_speed import speed_of
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.redis_client import TRANSIENT, check, connect
from queue_app.coordination.states import JobState, JobStatus, ShardState, ShardStatus
from queue_app.coordination.trouble import Trouble, read_troubles
from queue_app.coordination.worker_figures import Figures
from queue_app.coordination.workers import Owner, WorkerEntry, live_workers, server_time
from queue_app.errors import JobNotFound
from queue_app.host.file_lock import is_held
from queue_app.host.queues import Queue
from queue_app.job.directory import JobDir
from queue_app.job.done_records import read_done
from queue_app.job.spec import Job, Shard
from queue_app.settings import runtime_config


@dataclass(frozen=True, slots=True)
class WorkerView:
    """One worker as `status` shows it; `shard` is None while it is idle."""

    name: str
    queue: str
    device: str
    host: str
    pid: int
    child_pid: int
    shard: int | None
    shard_done: int = 0
    """Records of its shard that are committed or set aside, of `shard_total`."""
    shard_total: int = 0
    figures: Figures | None = None
    """What it computes; None while it is idle, and until its shard is under way."""
    trouble: Trouble | None = None
    """What keeps it from beginning a shard of the job; it tries again all the same."""


@dataclass(frozen=True, slots=True)
class JobSnapshot:
    """Counts of one job.

    `rate` is sequences a second over the last minute, 0 unless the job runs. `eta_seconds` is what is left of
    the computation at its speed; None where that is not known, and while nothing is computed.
    """

    job: str
    state: JobState
    total: int
    done: int
    quarantined: int
    num_shards: int
    shards: dict[str, int]
    rate: float
    eta_seconds: float | None
    workers: tuple[WorkerView, ...] = ()
    trouble: str = ""
    """Why nothing gets on; it is tried again all the same."""
    events: tuple[Event, ...] = ()
    """The latest, in the order in which they happened."""
    remedy: str = ""
    """How to go on, where nobody works on the job."""

    @property
    def ended(self) -> bool:
        return self.state in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)

    @property
    def reason(self) -> str:
        """Why a failed job was given up, as far as it is known."""
        failed = [event.text for event in self.events if event.kind is EventKind.FAILED]
        return failed[-1] if failed and self.state is JobState.FAILED else ""

    @property
    def tokens_per_second(self) -> float:
        """Of all workers together."""
        return sum((worker.figures.tokens_per_second for worker in self.workers if worker.figures), 0.0)

    def as_json(self) -> dict[str, Any]:
        """The layout of `status --json`."""
        return {
            "job": self.job,
            "state": str(self.state),
            "sequences": {"total": self.total, "done": self.done, "quarantined": self.quarantined},
            "shards": {"total": self.num_shards, **self.shards},
            "rate": round(self.rate, 3),
            "tokens_per_second": round(self.tokens_per_second, 3),
            "eta_seconds": None if self.eta_seconds is None else round(self.eta_seconds, 1),
            "workers": [asdict(worker) for worker in self.workers],
            "trouble": self.trouble or None,
            "remedy": self.remedy or None,
            "events": [asdict(event) for event in self.events],
        }


def snapshot(client: redis.Redis, job_id: str, *, lease_seconds: float) -> JobSnapshot | None:
    """What the server knows; None when it does not know the job."""
    manifest = CheckpointManifest(client, job_id)
    status = manifest.job_status()
    if status is None:
        return None
    is_running = status.state is JobState.RUNNING
    speed = speed_of(manifest.samples() if is_running else (), server_time(client))
    return JobSnapshot(
        job=job_id,
        state=status.state,
        total=status.sequences_total,
        done=status.sequences_done,
        quarantined=status.sequences_quarantined,
        num_shards=status.num_shards,
        shards={str(state): count for state, count in status.shards.items()},
        rate=speed.sequences,
        eta_seconds=speed.seconds_for(status.cost_total - status.cost_done),
        workers=_workers(manifest, status, live_workers(client, lease_seconds)),
        trouble=status.trouble,
        events=read_events(client, job_id),
    )


def _workers(
    manifest: CheckpointManifest, status: JobStatus, entries: Sequence[WorkerEntry]
) -> tuple[WorkerView, ...]:
    running = manifest.shard_statuses(manifest.running()) if status.shards[ShardState.RUNNING] else []
    held = {owner.worker: shard for shard in running if (owner := Owner.decode(shard.owner))}
    troubles = read_troubles(manifest.client, manifest.job_id)
    return tuple(
        _worker(entry, held.get(entry.name), troubles.get(entry.name))
        for entry in sorted(entries, key=lambda entry: (entry.host, Queue.parse(entry.queue)))
    )


def _worker(entry: WorkerEntry, shard: ShardStatus | None, trouble: Trouble | None) -> WorkerView:
    return WorkerView(
        name=entry.name,
        queue=entry.queue,
        device=entry.device,
        host=entry.host,
        pid=entry.pid,
        child_pid=entry.child_pid,
        shard=shard.index if shard else None,
        shard_done=shard.sequences_done + shard.quarantined if shard else 0,
        shard_total=shard.num_records if shard else 0,
        figures=shard.figures if shard else None,
        trouble=None if shard else trouble,
    )


def snapshot_of_directory(job: Job, job_dir: JobDir, scratch: Path | None) -> JobSnapshot:
    """What the job directory says: published shards, and what the stores of the others hold."""
    done = quarantined = num_done = 0
    for shard in job.shards:
        record = read_done(job_dir, shard.index)
        if record is not None:
            done, quarantined = done + record.num_embedded, quarantined + len(record.quarantine)
            num_done += 1
        else:
            done += _committed(job_dir, shard, job_dir.checkpoint(shard.index, job.job_id, scratch))
    left = len(job.shards) - num_done
    state = _resting_state(job_dir) if left else JobState.DONE
    return JobSnapshot(
        job=job.job_id,
        state=state,
        total=job.counts.num_records,
        done=done,
        quarantined=quarantined,
        num_shards=len(job.shards),
        shards={str(s): {"done": num_done, "pending": left}.get(str(s), 0) for s in ShardState},
        rate=0.0,
        eta_seconds=None if left else 0.0,
        remedy=_remedy(job_dir) if left and state is not JobState.RUNNING else "",
    )


def _resting_state(job_dir: JobDir) -> JobState:
    """Of an unfinished job that no server tells of: running only where a command is at work on it."""
    if is_held(job_dir.path / "lock"):
        return JobState.RUNNING
    try:
        return JobState(job_dir.held.read_text())
    except (FileNotFoundError, ValueError):
        return JobState.STOPPED


def _remedy(job_dir: JobDir) -> str:
    goes_on = f"holdfast resume {shlex.quote(str(job_dir.path))} goes on"
    # A job that was run with a server of its own has none any more; another one's may only not be known here.
    return goes_on if job_dir.server_json.exists() else f"{goes_on}; --broker names the server of its workers"


def _committed(job_dir: JobDir, shard: Shard, store_path: Path) -> int:
    """Records of which anything is committed, twins included; 0 where the store cannot be read."""
    from checkpoint.errors import CheckpointError
    from checkpoint.store import CheckpointStore
    from queue_app.job.shard_files import num_records_of

    if not (store_path / "data.mdb").is_file():
        return 0
    try:
        with CheckpointStore.open_readonly(store_path) as store:
            committed = store.committed_ordinals()
    except CheckpointError:
        return 0
    return num_records_of(job_dir.shard(shard.index), committed) if shard.num_twins else len(committed)


def snapshots(job: str | None, broker: str | None) -> list[JobSnapshot]:
    """One job's snapshot, or those of every job of the server.

    Raises:
        JobNotFound: nobody knows the job.
        BrokerUnreachable: there is no server, and nothing on disk to read instead.
    """
    if job is None:
        url = server_url(None, broker)
        client = connect(url)
        check(client, url)
        job_ids = sorted(cast("dict[str, str]", client.hgetall(keys.JOBS)))
        return [found for job_id in job_ids if (found := _ask(client, job_id))]
    directory = named_directory(job)
    client = connect(server_url(directory, broker))
    try:
        found = _ask(client, directory.load().job_id if directory else job)
    except (*TRANSIENT, redis.AuthenticationError):
        found = None
        if directory is None:
            check(client, server_url(directory, broker))
    if found is None and directory is not None:
        found = snapshot_of_directory(directory.load(), directory, runtime_config().scratch)
    if found is None:
        raise JobNotFound(f"{job}: neither a job directory nor a job that the server knows")
    return [found]


def _ask(client: redis.Redis, job_id: str) -> JobSnapshot | None:
    return snapshot(client, job_id, lease_seconds=runtime_config().lease_seconds)
