"""Find the job that a user means: by id, by job directory, or by the output it belongs to."""

import re
from pathlib import Path

from queue_app.coordination.embedded_server import embedded_address
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.redis_client import check, connect
from queue_app.errors import BrokerUnreachable, JobNotFound
from queue_app.job.directory import JobDir, find_job_directory
from queue_app.settings import runtime_config

JOB_ID = re.compile("[0-9a-f]{12}-[0-9a-f]{8}")


def named_directory(job: str) -> JobDir | None:
    """None: it is a job's id. Raises JobNotFound when it can be neither."""
    try:
        return find_job_directory(Path(job))
    except JobNotFound:
        if JOB_ID.fullmatch(job):
            return None
        raise


def server_url(directory: JobDir | None, broker: str | None) -> str:
    """The server that was asked for, else the job's own embedded one, else the default."""
    if broker is None and directory is not None:
        address = embedded_address(directory)
        if address is not None:
            return address.url
    return broker or runtime_config().broker_url


def manifest_of(job: str, broker: str | None) -> tuple[CheckpointManifest, str]:
    """The manifest of a job that the server knows, and the server's url.

    Raises:
        BrokerUnreachable: no server answers, as that of a job that does not run.
        JobNotFound: it does not know the job.
    """
    directory = named_directory(job)
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
