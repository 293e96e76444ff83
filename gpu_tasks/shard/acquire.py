"""A shard's lease, asked of the manifest."""

import contextlib

from checkpoint import CheckpointStore
from gpu_tasks.shard.kind import fix_kind
from queue_app.coordination.dealing import LeaseSeen
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.redis_client import TRANSIENT
from queue_app.coordination.states import Lease, Refusal
from queue_app.coordination.workers import Owner
from queue_app.job.directory import JobDir
from queue_app.job.spec import Job
from queue_app.settings import runtime_config
from queue_app.worker.device_worker import this_worker
from queue_app.worker.leases import take_away, why_gone


def acquire(manifest: CheckpointManifest, directory: JobDir, job: Job, index: int) -> Lease | Refusal:
    """The lease, or why the shard is not given. Of a holder that died on this host it is taken away.

    The message of a process that was killed often comes back before any observer has looked.

    Raises:
        OtherKind: the job is for one kind of device, which another worker has fixed; the shard goes back
            unspent.
    """
    answer = _ask(manifest, directory, job, index)
    if isinstance(answer, Refusal) and answer.reason == "held" and _holder_died(manifest, index):
        answer = _ask(manifest, directory, job, index)
    if isinstance(answer, Lease) and job.run.one_kind:
        _fix_kind(manifest, directory, job, answer)
    return answer


def _fix_kind(manifest: CheckpointManifest, directory: JobDir, job: Job, lease: Lease) -> None:
    try:
        kind = fix_kind(job, directory)
    except Exception:
        manifest.release(lease, "not begun", counts=False)
        raise
    with contextlib.suppress(*TRANSIENT):  # only to be shown
        manifest.note_one_kind(str(kind))


def _ask(manifest: CheckpointManifest, directory: JobDir, job: Job, index: int) -> Lease | Refusal:
    """The floor from the store keeps a flushed server from giving an old token again."""
    config = runtime_config()
    return manifest.acquire(
        job.shards[index],
        owner=Owner.current(this_worker.entry.name).encode(),
        floor=CheckpointStore.floor(directory.checkpoint(index, job.job_id, config.scratch)),
        attempt_limit=config.attempt_limit,
    )


def _holder_died(manifest: CheckpointManifest, index: int) -> bool:
    """True when it did, and its lease is taken away now."""
    status = manifest.shard_status(index)
    if status is None:
        return False
    seen = LeaseSeen(manifest.job_id, index, status.beat, status.token, status.owner)
    reason = why_gone(seen)
    return reason is not None and take_away(manifest.client, seen, reason)
