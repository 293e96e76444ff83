"""`holdfast resume`: a job goes on from its directory alone, without its inputs."""

from pathlib import Path

from queue_app.api.local_run import LocalRun
from queue_app.api.local_workers import LocalSetup, worker_settings
from queue_app.errors import UsageError
from queue_app.host.queues import device_class
from queue_app.ingest.prepare import Prepared
from queue_app.job.directory import JobDir
from queue_app.job.done_records import finished_shards
from queue_app.job.model_place import find_again
from queue_app.job.output_place import check_output, output_of, refuse_foreign
from queue_app.job.spec import Job
from queue_app.outputs.export import ExportReport


def resume(
    job_dir: JobDir, setup: LocalSetup, *, output: Path | None = None, model: str | None = None
) -> ExportReport:
    """Go on with a job. Raises as `embed` does.

    `output` None: where it was to go. `model` is where the job's model lies now, if it has moved.
    """
    job = job_dir.load()
    output = output or output_of(job, job_dir)
    check_output(output)
    refuse_foreign(output, job_dir, job.job_id)
    if device_class(setup.queues) != job.options.device_class:
        raise UsageError(f"{job_dir.path}: this job was planned for {job.options.device_class} workers")
    return LocalRun(
        job_dir=job_dir,
        prepare=lambda _: _go_on(job, job_dir, model),
        output=output,
        setup=setup,
        settings=worker_settings(job.model.path, job.run),
    ).run()


def _go_on(job: Job, job_dir: JobDir, model: str | None) -> Prepared:
    """Once the model was looked for, where anything is left to compute with it."""
    if model is not None or len(finished_shards(job, job_dir)) < len(job.shards):
        find_again(job, job_dir, model)
    return Prepared(job, job_dir, created=False)
