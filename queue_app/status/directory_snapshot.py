"""A snapshot read from the job directory alone, where there is no server."""

import shlex
from pathlib import Path

from queue_app.coordination.states import JobState, ShardState
from queue_app.host.file_lock import is_held
from queue_app.job.directory import JobDir
from queue_app.job.done_records import read_done
from queue_app.job.shard_table import Shard
from queue_app.job.spec import Job
from queue_app.status.job_snapshot import JobSnapshot


def snapshot_of_directory(job: Job, job_dir: JobDir, scratch: Path | None) -> JobSnapshot:
    """What the job directory says: published shards, and what the stores of the others hold."""
    done = quarantined = num_done = 0
    for shard in job.shards:
        record = read_done(job_dir, shard)
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
    return (
        goes_on
        if job_dir.server_json.exists()
        else f"{goes_on}; --broker-url names the server of its workers"
    )


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
