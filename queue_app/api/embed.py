"""Holdfast from Python: `embed`, `start`, `embed_async` and `submit`.

A job is the same whichever way it was begun: it lies in its directory, and the same call, or the same
command, goes on with it.
"""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Unpack

from queue_app.api import local_run
from queue_app.api.background_run import BackgroundRun
from queue_app.api.enqueue import enqueue
from queue_app.api.inputs import Paths, Sequences, input_files
from queue_app.api.job_handle import JobHandle
from queue_app.api.options import Options, request_of
from queue_app.coordination.redis_client import connected, own_broker
from queue_app.coordination.routing import every_live_queue
from queue_app.host.devices import check_queues, choose_queues, cpu_threads
from queue_app.ingest.model_options import find_requested
from queue_app.ingest.request import EmbedRequest, check_request
from queue_app.settings import runtime_config
from queue_app.status.view import View, open_view


def embed(
    inputs: Paths | None = None,
    *,
    model: str | os.PathLike[str],
    output: str | os.PathLike[str],
    sequences: Sequences | None = None,
    device: str | int = "auto",
    workers: int | None = None,
    broker_url: str | None = None,
    progress: bool = False,
    **options: Unpack[Options],
) -> JobHandle:
    """Run a whole job on this machine, and come back when its output is written.

    As `holdfast embed`: it starts a server and a worker per device, and ends them. Called again after
    whatever ended it, it goes on where it was; on a finished job it only writes the output again.

    Args:
        inputs: a file or several. Text in memory goes to `sequences`.
        model: a directory with config.json and *.safetensors, a hub id, or mock:DIM.
        output: out.h5, out.npy, out.parquet, out.arrow, or a directory.
        sequences: instead of files, id -> sequence, or a Series of pandas, whose index are the ids; or
            sequences alone (a list, an array, a generator, a Series of polars), whose ids are "0", "1", …
        device: auto, cpu, or GPU numbers such as 0 or "0,1".
        workers: on the CPU; default: by the model's size.
        broker_url: a server of your own; default: HOLDFAST_BROKER_URL, else one is started.
        progress: shows on standard error how far it is.

    Returns:
        The finished job; `.result()` are its vectors.

    Raises:
        UsageError: an input, model or option cannot be used; nothing is left behind.
        WrongType: a TypeError, for a DataFrame and the like: says what to write.
        JobChanged: the output belongs to a job with other inputs, model or options.
        JobBusy: another process works on it.
        JobFailed: shards were given up; what is done stays.
        DiskFull: no room; what is done stays.
        KeyboardInterrupt: on Ctrl-C, when the workers have committed what they had.
    """
    run = _LocalJob(inputs, sequences, request_of(model, output, options), device, workers, broker_url)
    with open_view(quiet=not progress) as view:
        run(view)
    return JobHandle(run.request.directory, broker_url=broker_url)


def start(
    inputs: Paths | None = None,
    *,
    model: str | os.PathLike[str],
    output: str | os.PathLike[str],
    sequences: Sequences | None = None,
    device: str | int = "auto",
    workers: int | None = None,
    broker_url: str | None = None,
    progress: bool = False,
    **options: Unpack[Options],
) -> JobHandle:
    """`embed` in the background: comes back when the inputs are read and the job stands.

    The run ends with this process at the latest: a program that ends without `Job.wait()` lets it finish
    first, one that is killed takes it along, resumable.
    """
    here = _LocalJob(inputs, sequences, request_of(model, output, options), device, workers, broker_url)
    run = BackgroundRun(here, quiet=not progress)
    run.start()
    return JobHandle(here.request.directory, broker_url=broker_url, run=run)


async def embed_async(
    inputs: Paths | None = None,
    *,
    model: str | os.PathLike[str],
    output: str | os.PathLike[str],
    sequences: Sequences | None = None,
    device: str | int = "auto",
    workers: int | None = None,
    broker_url: str | None = None,
    progress: bool = False,
    **options: Unpack[Options],
) -> JobHandle:
    """`embed`, without holding up the event loop. Cancelled, it stops the run as Ctrl-C would."""
    begin = partial(
        start,
        inputs,
        model=model,
        output=output,
        sequences=sequences,
        device=device,
        workers=workers,
        broker_url=broker_url,
        progress=progress,
        **options,
    )
    starting = asyncio.ensure_future(asyncio.to_thread(begin))
    try:
        job = await asyncio.shield(starting)
        await job.wait_async()
    except asyncio.CancelledError:
        # A thread cannot be cancelled: the job is let come to stand, and then stopped in order.
        await asyncio.to_thread((await starting).stop)
        raise
    return job


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
        threads: of each CPU worker; fixed in the job, as it can change the last bits.

    Raises:
        UsageError: as `embed`, and where no worker lives and no queues are named.
        JobChanged: the output belongs to a job with other inputs, model or options.
        BrokerUnreachable: no server.
        JobBusy: another process works on the job on this machine.
    """
    if isinstance(inputs, EmbedRequest):
        return _submit(inputs, broker_url, queues, threads)
    with input_files(inputs, sequences) as files:
        request = replace(request_of(model, output, options), inputs=files)
        return _submit(request, broker_url, queues, threads)


def _submit(
    request: EmbedRequest, broker_url: str | None, queues: Sequence[str] | None, threads: int | None
) -> JobHandle:
    check_request(request)
    check_queues(queues or [])
    model = find_requested(request)
    url, client = connected(broker_url)
    names = queues or every_live_queue(client)
    prepared = enqueue(
        request, model, broker_url=url, queues=names, threads=threads or cpu_threads(len(names))
    )
    return JobHandle(prepared.job_dir, broker_url=url, created=prepared.created)


@dataclass(frozen=True, slots=True)
class _LocalJob:
    """A job of this machine, to be run to its end by calling it with a view."""

    inputs: Paths | None
    sequences: Sequences | None
    request: EmbedRequest
    device: str | int
    workers: int | None
    broker_url: str | None

    def __call__(self, view: View) -> None:
        config = runtime_config()
        with input_files(self.inputs, self.sequences) as files:
            request = replace(self.request, inputs=files)
            model = find_requested(request)
            cpu_workers = local_run.cpu_workers(request, model)
            queues = choose_queues(str(self.device), self.workers, config, cpu_workers=cpu_workers)
            local_run.embed(
                request,
                model,
                queues=queues,
                threads=cpu_threads(len(queues)),
                broker_url=own_broker(self.broker_url),
                config=config,
                view=view,
            )
