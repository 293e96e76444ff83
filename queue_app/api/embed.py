"""Holdfast from Python: `embed`, `start` and `embed_async` run a job on this machine.

A job is the same whichever way it was begun: it lies in its directory, and the same call, or the same
command, goes on with it.
"""

import asyncio
import inspect
import os
from typing import Unpack

from queue_app.api.background_run import BackgroundRun
from queue_app.api.inputs import Paths, Sequences
from queue_app.api.job_handle import JobHandle
from queue_app.api.local_job import LocalJob
from queue_app.api.options import Options, RunArguments
from queue_app.api.signatures import name_every_option, take_after


def embed(
    inputs: Paths | None = None,
    *,
    model: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    sequences: Sequences | None = None,
    device: str | int = "auto",
    workers: int | None = None,
    broker_url: str | None = None,
    progress: bool | None = None,
    **options: Unpack[Options],
) -> JobHandle:
    """Run a whole job on this machine, and come back when its output is written.

    As `holdfast embed`: it starts a server and a worker per device, and ends them. Called again after
    whatever ended it, it goes on where it was; on a finished job it only writes the output again.

    Args:
        inputs: a file or several. Text in memory goes to `sequences`.
        model: a directory with config.json and *.safetensors, a hub id, or mock:DIM.
        output: out.h5, out.npy, out.parquet, out.arrow, or a directory. Sequences in memory do without: the
            job then lies in ~/.cache/holdfast/jobs (`Job.output` says where), and the same call finds it.
        sequences: instead of files, id -> sequence, or a Series of pandas, whose index are the ids; or
            sequences alone (a list, an array, a generator, a Series of polars), whose ids are "0", "1", …
        device: auto, cpu, or GPU numbers such as 0 or "0,1".
        workers: on the CPU; default: by the model's size.
        broker_url: a server of your own; default: HOLDFAST_BROKER_URL, else one is started.
        progress: shows how far it is, below the cell or on standard error. Default: only in a notebook.

    Returns:
        The finished job; `.result()` are its vectors.

    Raises:
        UsageError: an input, model or option cannot be used, or files have no output; nothing is left
            behind.
        WrongType: a TypeError, for a DataFrame and the like: says what to write.
        JobChanged: the output belongs to a job with other inputs, model or options.
        JobBusy: another process works on it.
        JobFailed: shards were given up; what is done stays.
        DiskFull: no room; what is done stays.
        KeyboardInterrupt: on Ctrl-C, when the workers have committed what they had.
    """
    job = LocalJob(inputs, model, output, sequences, device, workers, broker_url, progress, options)
    with job.open_view() as view:
        job.run(view)
    return _handle(job)


def start(inputs: Paths | None = None, **arguments: Unpack[RunArguments]) -> JobHandle:
    """`embed` in the background: comes back when the inputs are read and the job stands.

    The run ends with this process at the latest: a program that ends without `Job.wait()` lets it finish
    first, one that is killed takes it along, resumable.
    """
    job = _called_with(inputs, arguments)
    run = BackgroundRun(job.run, job.open_view)
    run.start()
    return _handle(job, run)


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


def _called_with(inputs: Paths | None, arguments: RunArguments) -> LocalJob:
    """The job that `embed` would run."""
    given = _SIGNATURE.bind(inputs, **arguments)
    given.apply_defaults()
    return LocalJob(**given.arguments)


def _handle(job: LocalJob, run: BackgroundRun | None = None) -> JobHandle:
    return JobHandle(job.request.directory, broker_url=job.broker_url, run=run)


_SIGNATURE = inspect.signature(embed)
name_every_option(embed)
for _call in (start, embed_async):
    take_after(_call, embed)
