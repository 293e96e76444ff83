"""The commands that have a job computed: `holdfast embed`, `enqueue`, `resume` and `worker`."""

import shlex
from typing import Annotated

from queue_app.cli import options as options
from queue_app.cli.option_groups import flattened
from queue_app.cli.printing import print_json, print_report, resumable, say, tell
from queue_app.host.limits import require_limits
from queue_app.ingest.request import EmbedRequest


@flattened
def embed(
    request: EmbedRequest,
    machine: options.Machine,
    allow_quarantine: options.AllowQuarantine = None,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Embed the inputs on this machine. Run again to resume.

    Starts a server and a worker per device, shows how far it is, and writes the output.
    """
    from queue_app.ingest.settle import choose_workers, start_settling

    settled = start_settling(request)  # the model is read while this process imports the rest
    from queue_app.api.local_run import embed as run
    from queue_app.api.local_workers import LocalSetup
    from queue_app.host.memory import do_without_pandas
    from queue_app.status.allowance import parse_allowance
    from queue_app.status.screens import open_view

    do_without_pandas()
    allowed = parse_allowance(allow_quarantine)
    config = machine.config()
    model = settled()
    queues = choose_workers(request, model, machine.device, machine.workers, config)
    named = request.job_dir or request.output
    with resumable(request.directory, named), open_view(quiet=quiet or as_json) as view:
        report = run(request, model, LocalSetup(queues, machine.own_broker(), config, view))
    print_report(report, as_json, allowed, quiet=quiet)


@flattened
def enqueue(
    request: EmbedRequest,
    queues: Annotated[
        str | None, options.option(help="gpu0,gpu1,… Default: those of live workers.", group="Fleet")
    ] = None,
    threads: Annotated[
        int | None,
        options.option(
            min=1,
            help="Of each CPU worker, fixed in the job. Default: by the workers' cores.",
            group="Devices and speed",
        ),
    ] = None,
    broker_url: options.BrokerUrl = None,
    as_json: options.Json = False,
) -> None:
    """Hand a job to the workers of a running server. Prints its id and returns."""
    from queue_app.api.submit import submit
    from queue_app.api.wording import what_was_read
    from queue_app.coordination.redis_client import open_to_writers
    from queue_app.settings import runtime_config

    if warning := open_to_writers(broker_url or runtime_config().broker_url):
        say(warning)
    named = queues.split(",") if queues is not None else None
    job = submit(request, broker_url=broker_url, queues=named, threads=threads)
    if as_json:
        print_json({"job": job.id, "created": job.created, "job_dir": str(job.job_dir.path)})
        return
    tell(job.id)
    for line in what_was_read(job.job):
        say(line)
    say("submitted" if job.created else "this job was submitted before; it goes on")
    watching = shlex.join(["holdfast", "status", str(request.job_dir or request.output), "--watch"])
    say(f"to watch it: {watching}" + (" --broker-url …" if broker_url else ""))


@flattened
def resume(
    job_dir: options.JobDirArgument,
    model: options.MovedModel = None,
    output: options.ResumedOutput = None,
    *,
    machine: options.Machine,
    allow_quarantine: options.AllowQuarantine = None,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Go on with a job from its directory alone. As embed does, without reading the inputs again.

    The output of a job directory that was moved or copied is written beside it, not where it was.
    """
    from queue_app.api.local_workers import LocalSetup
    from queue_app.api.resume import resume as run
    from queue_app.host.devices import choose_queues, cpu_workers_of
    from queue_app.job.directory import job_and_output
    from queue_app.status.allowance import parse_allowance
    from queue_app.status.screens import open_view

    allowed = parse_allowance(allow_quarantine)
    directory, named = job_and_output(job_dir)
    job = directory.load()
    require_limits(job.model.path)
    is_cpu = machine.device == "auto" and job.options.device_class == "cpu"
    config = machine.config()
    queues = choose_queues(
        "cpu" if is_cpu else machine.device, machine.workers, config, cpu_workers=cpu_workers_of(job.threads)
    )
    with resumable(directory, job_dir), open_view(quiet=quiet or as_json) as view:
        setup = LocalSetup(queues, machine.own_broker(), config, view)
        report = run(directory, setup, output=output or named, model=model)
    print_report(report, as_json, allowed, quiet=quiet)
