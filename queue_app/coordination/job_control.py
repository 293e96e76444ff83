"""Cancel, pause and unpause a job: in the manifest at once, and in its directory, which outlives that.

What the manifest will refuse is not noted in the directory either: there it would count once the server has
lost its data. A host that does not see the directory writes nothing, and says so.
"""

import logging

from queue_app.celery_app import make_app
from queue_app.coordination.dealing import deal_to_idle
from queue_app.coordination.find_job import manifest_of, named_directory
from queue_app.coordination.fleet import job_places
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.states import JobState
from queue_app.errors import HoldfastError, JobNotFound
from queue_app.job.directory import JobDir

log = logging.getLogger(__name__)


def cancel(job: str, broker: str | None) -> tuple[str, JobState]:
    """Stop a job at the next batch boundary; answers its id and state. A finished one stays finished."""
    manifest, _ = manifest_of(job, broker)
    state, directory = _now(job, manifest)
    if state is not JobState.DONE and directory:
        directory.hold("cancelled")
    return manifest.job_id, manifest.cancel()


def pause(job: str, broker: str | None) -> tuple[str, JobState]:
    """Stop a running job at the next batch boundary, until it is unpaused; any other stays as it is."""
    manifest, _ = manifest_of(job, broker)
    state, directory = _now(job, manifest)
    if state is JobState.RUNNING and directory:
        directory.hold("paused")
    return manifest.job_id, manifest.pause()


def unpause(job: str, broker: str | None) -> tuple[str, JobState]:
    """Let a paused job go on, and give idle workers its shards."""
    manifest, url = manifest_of(job, broker)
    before, directory = _now(job, manifest)
    if before in (JobState.PAUSED, JobState.RUNNING) and directory:  # running: an unpause that died halfway
        directory.held.unlink(missing_ok=True)
    state = manifest.unpause()
    if state is JobState.RUNNING and (status := manifest.job_status()):
        deal_to_idle(manifest.client, make_app(url), status.kind)
    return manifest.job_id, state


def _now(job: str, manifest: CheckpointManifest) -> tuple[JobState, JobDir | None]:
    """The job's state and directory, None where this host does not see that. Raises JobNotFound when the
    server has just forgotten it."""
    status = manifest.job_status()
    if status is None:
        raise JobNotFound(f"{manifest.job_id}: the server does not know this job")
    if (named := named_directory(job)) is not None:
        return status.state, named
    try:
        return status.state, job_places(manifest.client).find(manifest.job_id, status.job_dir)
    except HoldfastError as error:
        log.warning("noted by the server alone, which may lose its data: %s", error)
        return status.state, None
