"""Holdfast from Python: `embed`, `start` and `embed_async` run a job on this machine.

A job is the same whichever way it was begun: it lies in its directory, and the same call, or the same
command, goes on with it.
"""

import asyncio
import inspect
import os
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Unpack

from queue_app.api import local_run
from queue_app.api.background_run import BackgroundRun
from queue_app.api.inputs import Paths, Sequences, input_files
from queue_app.api.job_handle import JobHandle
from queue_app.api.local_workers import LocalSetup
from queue_app.api.options import Options, RunArguments, request_of
from queue_app.coordination.redis_client import own_broker
from queue_app.ingest.request import EmbedRequest
from queue_app.ingest.settle import choose_workers, settle
from queue_app.settings import runtime_config
from queue_app.status.screens import open_view
from queue_app.status.view import View


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
    job = LocalJob(inputs, model, output, sequences, device, workers, broker_url, progress, options)
    with open_view(quiet=not progress) as view:
        job.run(view)
    return job.handle()


def start(inputs: Paths | None = None, **arguments: Unpack[RunArguments]) -> JobHandle:
    """`embed` in the background: comes back when the inputs are read and the job stands.

    The run ends with this process at the latest: a program that ends without `Job.wait()` lets it finish
    first, one that is killed takes it along, resumable.
    """
    job = LocalJob.called_with(inputs, arguments)
    run = BackgroundRun(job.run, partial(open_view, quiet=not job.progress))
    run.start()
    return job.handle(run)


async def embed_async(inputs: Paths | None = None, **arguments: Unpack[RunArguments]) -> JobHandle:
    """`embed`, without holding up the event loop. Cancelled, it stops the run as Ctrl-C would."""
    starting = asyncio.ensure_future(asyncio.to_thread(start, inputs, **arguments))
    try:
        job = await asyncio.shield(starting)
        await job.wait_async()
    except asyncio.CancelledError:
        # A thread cannot be cancelled: the job is let come to stand, and then stopped in order.
        await asyncio.to_thread((await starting).stop)
        raise
    return job


SIGNATURE = inspect.signature(embed)
for _call in (start, embed_async):  # so that help and notebooks name every parameter of theirs, too
    setattr(_call, "__signature__", SIGNATURE)  # noqa: B010


@dataclass
class LocalJob:
    """A job to be run on this machine: the parameters of `embed`, `start` and `embed_async`."""

    inputs: Paths | None
    model: str | os.PathLike[str]
    output: str | os.PathLike[str]
    sequences: Sequences | None
    device: str | int
    workers: int | None
    broker_url: str | None
    progress: bool
    options: Options
    request: EmbedRequest = field(init=False)

    def __post_init__(self) -> None:
        self.request = request_of(self.model, self.output, self.options)

    @classmethod
    def called_with(cls, inputs: Paths | None, arguments: RunArguments) -> "LocalJob":
        """As `embed` would be."""
        given = SIGNATURE.bind(inputs, **arguments)
        given.apply_defaults()
        return cls(**given.arguments)

    def run(self, view: View) -> None:
        """To its end."""
        config = runtime_config()
        with input_files(self.inputs, self.sequences) as files:
            request = replace(self.request, inputs=files)
            model = settle(request)
            queues = choose_workers(request, model, str(self.device), self.workers, config)
            setup = LocalSetup(queues, own_broker(self.broker_url), config, view)
            local_run.embed(request, model, setup)

    def handle(self, run: BackgroundRun | None = None) -> JobHandle:
        return JobHandle(self.request.directory, broker_url=self.broker_url, run=run)
