"""The command that gives an output's vectors again, as the run card shows it."""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from queue_app.host.devices import cpu_workers_of
from queue_app.ingest.readers.keep import written_keep
from queue_app.job.readouts import is_ragged
from queue_app.job.spec import EmbedOptions, Job
from queue_app.model.spec import CONCATENATED, NormalizeSpec, TruncateSpec
from queue_app.shown import shell_word

SETTLED_OTHERWISE = ("device_class", "window_overlap", "layers", "dedup", "pool", "keep", "kernels", "exact")
"""Options that the command has no flag of that name and form for."""


def command_of(job: Job, output: Path) -> str:
    """The command that gives the same vectors: every option is named, also those that were `auto`."""
    model = job.model.name if "/" in job.model.name else job.model.path
    words = ["holdfast", "embed", *(file.path for file in job.inputs), "-m", model, "-o", str(output)]
    for field in fields(EmbedOptions):
        value = getattr(job.options, field.name)
        if value is not None and field.name not in SETTLED_OTHERWISE:
            words += [f"--{field.name.replace('_', '-')}", str(value)]
    words += ["--layers", ",".join(map(str, job.options.layers))]
    words += ["--keep", written_keep(job.options.keep)] if job.options.keep else []
    words += model_flags(job)
    words += [] if job.options.dedup else ["--no-dedup"]
    words += ["--kernels", "plain"] if job.options.kernels == "plain" else []
    words += exact_flags(job)
    words += ["--reuse", job.reuse.path] if job.reuse else []
    words += ["--least-cosine", str(job.run.least_cosine)] if job.run.least_cosine is not None else []
    words += ["--num-shards", str(len(job.shards.costs_to_compute))]
    if job.options.device_class == "cpu":
        # As many as give each the job's number of threads: another one would change the last bits.
        words += ["--device", "cpu", "--workers", str(cpu_workers_of(job.threads))]
    return " ".join(map(shell_word, words))


def exact_flags(job: Job) -> list[str]:
    """None, where the choice was left to us."""
    if job.run.must_be_exact:
        return ["--exact"]
    return [] if job.options.exact or job.model.family == "mock" else ["--no-exact"]


def model_flags(job: Job) -> Iterator[str]:
    """What was asked of the model, or what it is by itself: the same either way.

    Several pools in one vector are its own, and are left to it.
    """
    model, pool = job.model, job.options.pool
    if CONCATENATED not in pool:
        yield from ("--pool", pool)
    if model.family == "mock":
        return
    if model.revision:
        yield f"--revision={model.revision}"
    yield f"--rules={model.tokens.rules.name}"
    if model.prompt or model.prompts:
        yield f"--prompt={model.prompt.text if model.prompt else ''}"
    if is_ragged(job.options):
        return
    yield from (f"--truncate-dim={each.dim}" for each in model.head if isinstance(each, TruncateSpec))
    if not model.normalize:
        yield "--no-normalize"
    elif isinstance(model.head[-1], NormalizeSpec):
        yield "--normalize"
