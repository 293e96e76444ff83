"""How an attempt at a shard ended, told to the manifest, to the history and to Celery."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from checkpoint import DoneRecord
from gpu_tasks.errors import JobHopeless
from gpu_tasks.shard.observers import HistoryNotes
from gpu_tasks.shard.trouble.whose_failure import Whose, whose
from gpu_tasks.shard.trouble.worker_trouble import (
    end_in_trouble,
    note_trouble,
    register_of,
    release_for_later,
    words_of,
)
from queue_app.celery_app import app
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.messages import ask_for_export
from queue_app.coordination.redis_client import TRANSIENT
from queue_app.coordination.states import Lease, Refusal
from queue_app.host.memory import give_memory_back
from queue_app.job.spec import Progress
from queue_app.shown import visible_lines
from queue_app.worker.device_worker import child_state, this_worker
from queue_app.worker.leases import Heartbeat
from queue_app.worker.metrics.counters import Count, counters

INSIST_SECONDS = 60.0


log = logging.getLogger(__name__)

Answer = TypeVar("Answer")


def tell_failure(
    manifest: CheckpointManifest, lease: Lease, history: HistoryNotes, error: Exception
) -> str | None:
    """The shard, or its job, fails where no other attempt would find better data; else it is tried again:
    elsewhere where this host failed it. Answers how that ended, in a word; None: the error is to be raised.
    """
    match whose(error):
        case Whose.JOB:
            reason, whole_job = visible_lines(str(error)), isinstance(error, JobHopeless)
            insist(lambda: manifest.fail(lease, reason, whole_job=whole_job))
            history.fail(reason)
        case Whose.HOST:
            history.fail(words_of(error))
            return give_back_unspent(manifest, lease, error)
        case Whose.SHARD:
            reason = visible_lines(f"{type(error).__name__}: {error}")
            log.error("failed, to be tried again %s", lease.label, exc_info=error)
            insist(lambda: release_for_later(manifest, lease, reason))
            history.fail(reason)
            counters.add(Count.SHARD_RETRIES)
            return "to be tried again"
    return None


def give_back_unspent(manifest: CheckpointManifest, lease: Lease, error: Exception) -> str:
    """This host could not do the shard: that is the worker's trouble, and costs the shard no attempt."""
    index, reason = lease.shard.index, words_of(error)
    insist(lambda: note_trouble(manifest, index, error, at_work=True))
    is_ours = insist(lambda: manifest.release(lease, reason, counts=False))
    return insist(lambda: end_in_trouble(manifest, index, error)) if is_ours else "lost"


def give_back(manifest: CheckpointManifest, lease: Lease, heartbeat: Heartbeat) -> str:
    """The shard was stopped at a batch boundary: by the worker's end, a pause, a cancel or a lost lease."""
    insist(lambda: manifest.release(lease, "stopped early", counts=False))
    if child_state.is_draining():
        return "stopped"
    return "lost" if heartbeat.lost.is_set() else str(heartbeat.job_state)


def finish(
    manifest: CheckpointManifest,
    lease: Lease,
    done: DoneRecord,
    reported: Progress | None,
    discard_store: Callable[[], None],
) -> str:
    """Tell the manifest; the last shard of a job wakes the export."""
    give_memory_back()
    batches = reported.batches_done if reported else 0
    progress = Progress(batches, done.num_embedded, len(done.quarantine))
    answer = insist(lambda: manifest.complete(lease, progress, done.quarantine))
    if isinstance(answer, Refusal):
        # The result stands in the job directory all the same; whoever holds the lease now will find it.
        log.warning("not completed: %s %s", answer.reason, lease.label)
        return answer.reason
    register_of(manifest).clear(this_worker.entry.name)
    counters.add(Count.SHARDS_COMPLETED)
    counters.add(Count.SEQUENCES_QUARANTINED, len(done.quarantine))
    discard_store()
    log.info("done %s embedded=%d quarantined=%d", lease.label, done.num_embedded, len(done.quarantine))
    state, exporter = answer
    ask_for_export(app, manifest.job_id, this_worker.entry.name, state=state, export_by=exporter)
    return "done"


def insist(call: Callable[[], Answer]) -> Answer:
    """Repeat a call while the server is away. Every call of the manifest may be made twice."""
    deadline = time.monotonic() + INSIST_SECONDS
    while True:
        try:
            return call()
        except TRANSIENT:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
