"""`submit` and `holdfast enqueue`: a job directory, a manifest and a message per shard, in one call."""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Unpack

from queue_app.api.cpu_threads import choose_threads, require_same_threads
from queue_app.api.inputs import Paths, Sequences, input_files
from queue_app.api.job_handle import JobHandle
from queue_app.api.options import Options, request_of
from queue_app.api.signatures import name_every_option
from queue_app.celery_app import make_app
from queue_app.coordination.manifest import forgetting
from queue_app.coordination.messages import announce
from queue_app.coordination.redis_client import connected
from queue_app.coordination.workers import every_live_queue
from queue_app.host.queues import check_queues, device_class
from queue_app.ingest.prepare import prepare
from queue_app.ingest.request import EmbedRequest
from queue_app.ingest.settle import settle
from queue_app.job.directory import locked_job_directory
from queue_app.job.disk_space import require_room_of_queues
from queue_app.job.output_place import forget_other_place, take_place
from queue_app.status.known_jobs import remember_job


def submit(
    inputs: Paths | EmbedRequest | None = None,
    *,
    model: str | os.PathLike[str] = "",
    output: str | os.PathLike[str] = "",
    sequences: Sequences | None = None,
    broker_url: str | None = None,
    queues: Sequence[str] | None = None,
    threads: int | None = None,
    **options: Unpack[Options],
) -> JobHandle:
    """Hand a job to the workers of a running server, and come back at once.

    As `holdfast enqueue`. Called twice, or by two programs at once, it makes one job.

    Args:
        inputs: as for `embed`; or an EmbedRequest, which says all the rest but where to send it.
        model: as for `embed`; the workers must see a directory under the same path.
        output: likewise.
        sequences: as for `embed`.
        broker_url: the server; default: HOLDFAST_BROKER_URL.
        queues: such as ["gpu0", "gpu1"]; default: those of all live GPU workers, or
            of all CPU workers where there are no others.
        threads: of each CPU worker; fixed in the job, as it can change the last bits. Default: what the live
            workers' hosts have cores for.

    Raises:
        UsageError: as `embed`, and where no worker lives and no queues are named.
        JobChanged: the output belongs to a job with other inputs, model or options.
        BrokerUnreachable: no server.
        JobBusy: another process works on the job on this machine.
        DiskFull: no room for what is left to compute.
    """
    if isinstance(inputs, EmbedRequest):
        return _submit(inputs, broker_url, queues, threads)
    with input_files(inputs, sequences) as files:
        request = replace(request_of(model, output, options), inputs=files)
        return _submit(request, broker_url, queues, threads)


name_every_option(submit)


def _submit(
    request: EmbedRequest, broker_url: str | None, queues: Sequence[str] | None, threads: int | None
) -> JobHandle:
    """Prepare the job, make it known to the server, and send one message per unfinished shard."""
    check_queues(queues or [])
    model = settle(request)
    url, client = connected(broker_url)
    queues = queues or every_live_queue(client)
    kind, num_threads = device_class(queues), choose_threads(client, queues, threads)
    with locked_job_directory(request.directory, wait=True):
        forget_other_place(request.directory)
        prepared = prepare(
            request, model, device_class=kind, threads=num_threads, forget_keys=forgetting(client)
        )
        require_same_threads(prepared.job, threads)
        take_place(prepared.job_dir, request.output)
        remember_job(prepared.job_dir)
        require_room_of_queues(prepared.job, prepared.job_dir, num_queues=len(queues))
        announce(client, make_app(url), prepared.job, prepared.job_dir, queues)
    return JobHandle(prepared.job_dir, broker_url=url, created=prepared.created)
