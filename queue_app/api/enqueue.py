"""`holdfast enqueue`: a job directory, a manifest and a message per shard, in one call."""

from collections.abc import Sequence

from queue_app.celery_app import make_app
from queue_app.coordination.manifest import forgetting
from queue_app.coordination.redis_client import check, connect
from queue_app.coordination.shard_messages import announce
from queue_app.ingest.prepare import Prepared, prepare
from queue_app.ingest.request import EmbedRequest, device_class
from queue_app.job.directory import locked_job_directory
from queue_app.job.disk_space import require_room
from queue_app.job.output_place import forget_other_place, take_place
from queue_app.model.spec import FoundModel
from queue_app.settings import runtime_config


def enqueue(
    request: EmbedRequest, model: FoundModel, *, broker_url: str, queues: Sequence[str], threads: int = 1
) -> Prepared:
    """Prepare the job, make it known to the server and send one message per unfinished shard.

    Run twice, or by two producers at once, it makes one job.

    Raises:
        UsageError: bad input, model or option; nothing is left behind.
        JobChanged: the output belongs to a job with other inputs, model or options.
        JobBusy: another process is working on the job.
        BrokerUnreachable: no server.
        DiskFull: not enough room for what is left to compute.
    """
    client = connect(broker_url)
    check(client, broker_url)
    with locked_job_directory(request.directory, wait=True):
        forget_other_place(request.directory)
        prepared = prepare(
            request, model, device_class=device_class(queues), threads=threads, forget_keys=forgetting(client)
        )
        take_place(prepared.job_dir, request.output)
        _require_room(prepared, num_workers=len(queues))
        app = make_app(broker_url)
        announce(client, app, prepared.job, prepared.job_dir, queues, resend_all=prepared.created)
    return prepared


def _require_room(prepared: Prepared, *, num_workers: int) -> None:
    """A scratch directory is each worker's own, and may be large where this host's is small."""
    config = runtime_config()
    num_here = num_workers if config.scratch is None else 0
    require_room(prepared.job, prepared.job_dir, config, num_workers=num_here)
