"""Find the job that a user means: by id, by job directory, or by the output it belongs to."""

import re
from pathlib import Path
from typing import cast

import redis

from queue_app.coordination import keys
from queue_app.coordination.embedded_server import ServerAddress
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.redis_client import TRANSIENT, check, connect
from queue_app.errors import BrokerUnreachable, JobNotFound
from queue_app.job.spec import JobDir
from queue_app.settings import runtime_config
from queue_app.status.snapshot import Snapshot, snapshot, snapshot_of_directory

JOB_ID = re.compile("[0-9a-f]{12}-[0-9a-f]{8}")


def job_directory(path: Path) -> JobDir:
    """Raises JobNotFound when neither the path nor `<path>.holdfast` holds a job."""
    return job_and_output(path)[0]


def job_and_output(path: Path) -> tuple[JobDir, Path | None]:
    """The job, and its output where the path names that; None where it is the job directory. Raises
    JobNotFound when it is neither."""
    for candidate, output in ((path, None), (path.parent / f"{path.name}.holdfast", path)):
        directory = JobDir(candidate.absolute())
        if directory.job_json.is_file():
            return directory, output
    raise JobNotFound(f"{path}: no job here (neither a job directory nor an output of one)")


def _as_directory(job: str) -> JobDir | None:
    """None: it is a job's id. Raises JobNotFound when it can be neither."""
    try:
        return job_directory(Path(job))
    except JobNotFound:
        if JOB_ID.fullmatch(job):
            return None
        raise


def server_url(directory: JobDir | None, broker: str | None) -> str:
    """The server that was asked for, else the job's own embedded one, else the default."""
    if broker is None and directory is not None:
        address = ServerAddress.read(directory.server_json)
        if address is not None:
            return address.url
    return broker or runtime_config().broker_url


def manifest_of(job: str, broker: str | None) -> tuple[CheckpointManifest, str]:
    """The manifest of a job that the server knows, and the server's url.

    Raises:
        BrokerUnreachable: no server answers, as that of a job that does not run.
        JobNotFound: it does not know the job.
    """
    directory = _as_directory(job)
    url = server_url(directory, broker)
    client = connect(url)
    try:
        check(client, url)
    except BrokerUnreachable:
        if directory is None or broker is not None or not directory.server_json.is_file():
            raise
        # Of its own server, which ends with the run, an address says nothing to anybody.
        raise BrokerUnreachable(
            f"{job}: nobody works on this job now; "
            "holdfast status tells how far it is, holdfast resume goes on"
        ) from None
    manifest = CheckpointManifest(client, directory.load().job_id if directory else job)
    if manifest.job_status() is None:
        raise JobNotFound(f"{job}: the server does not know this job")
    return manifest, url


def snapshots(job: str | None, broker: str | None) -> list[Snapshot]:
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
    directory = _as_directory(job)
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


def _ask(client: redis.Redis, job_id: str) -> Snapshot | None:
    return snapshot(client, job_id, lease_seconds=runtime_config().lease_seconds)
