"""Watching a job that this process runs: shown while it runs, its workers kept up, its end told apart."""

import time

from queue_app.api.local_workers import LocalWorkers
from queue_app.coordination.events import EventKind, publish
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.redis_client import TRANSIENT
from queue_app.coordination.states import JobState
from queue_app.coordination.trust.values import Garbage
from queue_app.errors import JobFailed
from queue_app.job.history import CommandLog
from queue_app.job.spec import Job
from queue_app.status.job_snapshot import JobSnapshot
from queue_app.status.view import View
from queue_app.status.watch import Lookout
from queue_app.worker.supervisor import POLL_SECONDS


def watch(job: Job, workers: LocalWorkers, view: View) -> None:
    """Until the job has ended: show how far it is, and keep server and workers up.

    Raises:
        JobFailed: it was cancelled, or shards were given up.
    """
    history = CommandLog(workers.job_dir)
    noted = {EventKind.SERVER: history.server_died, EventKind.WORKER: history.worker_died}
    # Of a server of our own its restart is told.
    say = view.say if workers.server is None else None
    lookout = Lookout(workers.client, job.job_id, workers.config.lease_seconds, say)
    while True:
        now = lookout.look()
        if now is not None:
            view.update(now)
            if now.ended:
                return _raise_unless_done(workers, job, now)
        for kind, text in workers.restart_dead():
            noted[kind]()
            try:  # to everyone who watches the job; the view shows it with the job's next snapshot
                publish(workers.client, job.job_id, kind, text)
            except (*TRANSIENT, Garbage):
                view.say(text)
        time.sleep(POLL_SECONDS)


def _raise_unless_done(workers: LocalWorkers, job: Job, now: JobSnapshot) -> None:
    if now.state is JobState.CANCELLED:
        raise JobFailed(f"job {job.job_id} was cancelled; the same command, or holdfast resume, goes on")
    if now.state is JobState.FAILED:
        manifest = CheckpointManifest(workers.client, job.job_id)
        statuses = manifest.all_statuses(len(job.shards))
        failed = [status for status in statuses if status.state == "failed"]
        first = f", shard {failed[0].index}: {failed[0].error}" if failed else ""
        raise JobFailed(
            f"job {job.job_id}: {len(failed)} shard(s) were given up{first}; "
            "the same command tries them again"
        )
